package caddymodule

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Assertion is a JSON Web Token (RFC 7519), signed with Ed25519. With it an upstream can
// verify who called without trusting the network before it. Its public key is at
// `/.well-known/lumio-keys.json`. With `secret` it is signed with HMAC-SHA256, and there is
// no public key.
type Assertion struct {
	// For whom the assertions are. The upstream compares `aud` with it. Required.
	Audience string `json:"audience,omitempty"`

	// Who has signed: `iss`. Default: `caddy-system-keys`.
	Issuer string `json:"issuer,omitempty"`

	// How long an assertion holds, in whole seconds. Default and maximum: 1m.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// Leave out the method and the URL of the request. An assertion is then signed
	// once for many requests of a key, which saves most of the cost. But if somebody
	// steals it, they can use it for any request until it expires. Default: false.
	Unbound bool `json:"unbound,omitempty"`

	// Sign with a secret that the upstream has too (HS256), which costs about a fiftieth
	// of a signature with Ed25519. Whoever has the secret can sign, so take it if the
	// upstream is one service, and a secret for each audience. At least 32 bytes. The
	// first one signs. The others are not used here: they are checked, and an upstream
	// accepts them while a secret is replaced. Use `{env.…}` or `{file.…}`: Caddy's
	// `/config/` endpoint shows a literal secret.
	Secret []string `json:"secret,omitempty"`
}

func (a *Assertion) config() *assertion.Config {
	return &assertion.Config{Audience: a.Audience, Issuer: a.Issuer, TTL: time.Duration(a.TTL), Unbound: a.Unbound}
}

func (a *Assertion) check() error { return a.config().Check() }

// startAssertion makes the maker of assertions when the placeholders may be resolved.
func (h *Handler) startAssertion(repl *caddy.Replacer) error {
	config := h.Assertion.config()
	err := resolve.Fields(repl, map[string]*string{"audience": &config.Audience, "issuer": &config.Issuer})
	if err == nil {
		config.Secrets, err = resolve.Secrets(repl, h.Assertion.Secret)
	}
	if err != nil {
		return fmt.Errorf("assertion: %w", err)
	}
	if h.maker, err = assertion.New(*config); err != nil {
		return err
	}
	return h.app.signers.claim(config.Audience, config.Secrets...)
}

// signers are the audiences of a configuration, by the id of each secret that signs for
// them. Ids are public, so comparing them gives nothing away.
type signers map[string]string

// ownSecret stands for the audience of secrets that no upstream may have. No audience is
// empty.
const ownSecret = ""

// claim says that secrets sign for an audience. Whoever can verify with a secret can sign
// with it too. With one secret for two audiences, a service could sign what another one
// believes. With the app's own, it could sign proofs and audit records, or be an admin.
func (s signers) claim(audience string, secrets ...[]byte) error {
	for _, secret := range secrets {
		id := assertion.SecretID(secret)
		other, known := s[id]
		switch {
		case !known:
			s[id] = audience
		case other == audience:
		case other == ownSecret, audience == ownSecret:
			return fmt.Errorf("assertion: a secret of %q is one of system_keys or jwt too, which no upstream may know: make another one",
				cmp.Or(audience, other))
		default:
			return fmt.Errorf("assertion: %q and %q have the same secret, so each of them could sign for the other: make one for each audience",
				other, audience)
		}
	}
	return nil
}

// assert signs who has sent a request. It is the gate's Assert.
func (h *Handler) assert(r *http.Request, identity *verify.Identity) (string, error) {
	ctx := r.Context()
	live, err := h.app.live(ctx)
	if err != nil {
		return "", err
	}
	method, url := clientTarget(r)
	token, err := h.maker.Make(ctx, live.Signer, identity, method, url)
	if err == nil {
		caddyhttp.SetVar(ctx, assertionVar, &signedAssertion{h.headerPrefix(), identity.ID, token})
	}
	return token, err
}

// assertionVar is the variable of a request that holds its [signedAssertion]. A second
// handler of ours on the same request owns the same header fields, and would otherwise
// remove the assertion.
const assertionVar = "system_keys.assertion"

type signedAssertion struct {
	prefix string
	key    store.ID
	token  string
}

// earlierAssertion is the gate's Assert of a handler that signs nothing. It keeps what an
// earlier handler has signed for the same key.
func (h *Handler) earlierAssertion(r *http.Request, identity *verify.Identity) (string, error) {
	earlier, ok := caddyhttp.GetVar(r.Context(), assertionVar).(*signedAssertion)
	if !ok || earlier.prefix != h.headerPrefix() || earlier.key != identity.ID {
		return "", nil
	}
	return earlier.token, nil
}

// clientTarget returns the method and the URL, without its query, that the client has
// used, before any rewrite. Scheme and host are those that the upstream gets as
// X-Forwarded-Proto and -Host. If a trusted proxy stands before us, that proxy names them
// (addForwardedHeaders in Caddy's reverseproxy.go). A WebSocket over HTTP/2 or 3 (RFC
// 8441, RFC 9220) reaches the upstream as a GET.
func clientTarget(r *http.Request) (method, url string) {
	method, sent := request.Original(r)
	if method == http.MethodConnect {
		method = http.MethodGet // the gate has refused every other CONNECT
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if request.FromTrustedProxy(r) {
		scheme = lastOr(r.Header["X-Forwarded-Proto"], scheme)
		host = lastOr(r.Header["X-Forwarded-Host"], host)
	}
	return method, assertion.Target(scheme, host, sent.EscapedPath())
}

// lastOr returns the last value, or otherwise if that is empty or there is none.
func lastOr(values []string, otherwise string) string {
	if n := len(values); n > 0 && values[n-1] != "" {
		return values[n-1]
	}
	return otherwise
}

// wantsPublicKeys reports whether a request is for the public keys, as its client has sent
// it or after a rewrite.
func wantsPublicKeys(r *http.Request) bool {
	if r.URL.Path == assertion.Path {
		return true
	}
	_, sent := request.Original(r)
	return sent.Path == assertion.Path
}

// servePublicKeys answers with the public keys, or refuses the request itself. It leaves
// nothing to error routes: the request still has everything that the client has sent, and an
// error route may be a proxy.
func (a *App) servePublicKeys(w http.ResponseWriter, r *http.Request, refuser *refuser) {
	if method, _ := request.Original(r); method != http.MethodGet && method != http.MethodHead {
		refuser.answer(w, r, &gate.Refusal{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Message: "the public keys can be read only", Header: http.Header{"Allow": {"GET, HEAD"}},
		})
		return
	}
	set, err := a.publicKeys(r.Context())
	if err != nil {
		refuser.answer(w, r, &gate.Refusal{
			Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: "the public keys cannot be read at the moment", Header: http.Header{"Retry-After": {"1"}}, Err: err,
		})
		return
	}
	set.ServeHTTP(w, r)
}

// publicKeys returns the public keys of all instances, which verify assertions.
func (a *App) publicKeys(ctx context.Context) (*assertion.KeySet, error) {
	live, err := a.live(ctx)
	if err != nil {
		return nil, err
	}
	return live.Published.Current(ctx)
}
