// Package upstream tells a service that stands behind caddy-system-keys who calls
// it, and takes nobody's word for it: the proxy signs each request
// (X-Lumio-Assertion), and this package verifies it.
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
// # What is verified
//
// The signature (Ed25519, by a key that the proxy publishes), the type of the
// token, its issuer and audience, when it was made and until when it holds, and
// that it was made for this method and this URL. The latter are compared with what
// the proxy hands on: the path, and X-Forwarded-Proto and X-Forwarded-Host or Host.
// Where something between changes these, say what they were: [WithBaseURL],
// [WithTarget]. A proxy that is configured with unbound signs for no request in
// particular: [WithoutBinding].
//
// # What else has the prefix
//
// Header fields under the prefix that were not signed are never left for a handler
// to read: those of a request with an assertion are replaced by what the assertion
// says, and a request without one that has any is refused with 401. It was forged,
// or the proxy does not sign.
//
// # When the keys cannot be had
//
// The public keys are read when they are first needed, again every five minutes,
// and when an assertion names one that is not among them, but not more than once in
// a second; such an assertion waits for that. While they cannot be read the last
// ones serve for an hour. An assertion that cannot be verified for want of keys is
// answered with 503 and Retry-After, and never with 401.
//
// The package imports the standard library alone.
package upstream
