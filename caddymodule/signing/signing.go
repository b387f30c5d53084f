// Package signing signs who has sent a request, for the upstream, and serves the public keys with
// which an upstream verifies it.
package signing

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
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

// Check checks the settings without resolving a placeholder.
func (a *Assertion) Check() error { return a.config().Check() }

// Signer signs the requests of one handler.
type Signer struct {
	app       *app.App
	prefix    string           // of the handler's header fields
	assertion *Assertion       // nil to sign nothing
	maker     *assertion.Maker // set before the app has started
}

// New makes the signer of a handler that owns the header fields under a prefix. Without an
// assertion it signs nothing. Otherwise it must be started with the app.
func New(app *app.App, prefix string, assertion *Assertion) *Signer {
	return &Signer{app: app, prefix: prefix, assertion: assertion}
}

// Start makes the maker of assertions. The app calls it when placeholders may be resolved.
func (s *Signer) Start(repl *caddy.Replacer, signers app.Signers) error {
	config := s.assertion.config()
	err := resolve.Fields(repl, map[string]*string{"audience": &config.Audience, "issuer": &config.Issuer})
	if err == nil {
		config.Secrets, err = resolve.Secrets(repl, s.assertion.Secret)
	}
	if err != nil {
		return fmt.Errorf("assertion: %w", err)
	}
	if s.maker, err = assertion.New(*config); err != nil {
		return err
	}
	return signers.Claim(config.Audience, config.Secrets...)
}

// variable is the variable of a request that holds its [signed] assertion. A second handler of
// ours on the same request owns the same header fields, and would otherwise remove the
// assertion.
const variable = "system_keys.assertion"

type signed struct {
	prefix string
	key    store.ID
	token  string
}

// Assert signs who has sent a request. It is the gate's Assert. A signer that signs nothing
// keeps what an earlier handler has signed for the same key.
func (s *Signer) Assert(r *http.Request, identity *verify.Identity) (string, error) {
	ctx := r.Context()
	if s.assertion == nil {
		earlier, ok := caddyhttp.GetVar(ctx, variable).(*signed)
		if !ok || earlier.prefix != s.prefix || earlier.key != identity.ID {
			return "", nil
		}
		return earlier.token, nil
	}
	live, err := s.app.Live(ctx)
	if err != nil {
		return "", err
	}
	method, url := clientTarget(r)
	token, err := s.maker.Make(ctx, live.Signer, identity, method, url)
	if err == nil {
		caddyhttp.SetVar(ctx, variable, &signed{s.prefix, identity.ID, token})
	}
	return token, err
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
