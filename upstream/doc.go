// Package upstream tells a service behind caddy-system-keys who calls it. The proxy
// signs each request (X-Lumio-Assertion), and this package verifies the signature. It
// believes nothing that was not signed.
//
//	keys := upstream.New("https://api.example.com/.well-known/lumio-keys.json", "lumio-api")
//	mux.Handle("GET /bots", keys.Require("bots:read")(bots))
//
//	func bots(w http.ResponseWriter, r *http.Request) {
//		caller, _ := upstream.FromContext(r.Context())
//		…
//	}
//
// The proxy signs when it is configured to, with the same audience:
//
//	system_key_auth {
//		assertion lumio-api
//	}
//
// Where the time of a signature counts, [NewShared] verifies with a secret that the proxy
// has too. Whoever has the secret can sign.
//
// # What is verified
//
// These are verified: the signature (Ed25519 by a key that the proxy publishes, or HS256
// by a shared secret, and never the one in place of the other), the type of the token, its
// issuer and audience, the times from and until which it holds,
// and that it was made for this method and this URL. Method and URL are compared with
// what the proxy hands on: the path, and X-Forwarded-Proto and X-Forwarded-Host or
// Host. If something between the proxy and the service changes these, use
// [WithBaseURL] or [WithTarget]. If the proxy is configured with unbound, it signs for
// no request in particular: use [WithoutBinding]. Such an assertion comes many times. A
// verifier remembers it until it expires, and does not verify its signature again.
//
// # Other header fields with the prefix
//
// A handler never sees a header field under the prefix that was not signed. If the
// request has an assertion, the fields are replaced by what the assertion says. If it
// has none, but has a field under the prefix, it is refused with 401: it was forged, or
// the proxy does not sign.
//
// # When the public keys cannot be read
//
// The public keys are read when they are first needed, and again every five minutes.
// They are also read when an assertion names an unknown key, at most once a second.
// The assertion waits for the answer. If the keys cannot be read, the last ones are
// used for an hour. If an assertion cannot be verified for want of keys, the answer is
// 503 with Retry-After, and never 401.
//
// The package imports the standard library only. A copy of it builds with Go 1.22.
package upstream
