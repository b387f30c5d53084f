package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Assertion is a JSON Web Token (RFC 7519), signed with Ed25519, by which an
// upstream can verify who called without trusting the network before it. Its
// public key is at `/.well-known/lumio-keys.json`.
type Assertion struct {
	// For whom the assertions are: what the upstream compares `aud` with.
	// Required.
	Audience string `json:"audience,omitempty"`

	// Who has signed: `iss`. Default: `caddy-system-keys`.
	Issuer string `json:"issuer,omitempty"`

	// How long an assertion holds, in whole seconds. Default and maximum: 1m.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// Leave out the method and the URL of the request. An assertion is then signed
	// once for many requests of a key, which saves most of what it costs, and
	// whoever gets hold of one can use it for any request until it expires.
	// Default: false.
	Unbound bool `json:"unbound,omitempty"`
}

func (a *Assertion) config() assertion.Config {
	return assertion.Config{Audience: a.Audience, Issuer: a.Issuer, TTL: time.Duration(a.TTL), Unbound: a.Unbound}
}

func (a *Assertion) check() error {
	config := a.config()
	return config.Check()
}

func (a *Assertion) unmarshal(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	a.Audience = d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	if err := inBlock(d, func(name string) error { return a.unmarshalOption(d, name) }); err != nil {
		return err
	}
	return wrap(d, a.check())
}

func (a *Assertion) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "issuer":
		if !d.AllArgs(&a.Issuer) {
			return d.ArgErr()
		}
	case "ttl":
		var value string
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		ttl, err := caddy.ParseDuration(value)
		if err != nil {
			return d.Errf("assertion: ttl: %v", err)
		}
		if a.TTL = caddy.Duration(ttl); ttl == 0 {
			return d.Errf("assertion: ttl must be whole seconds, not 0")
		}
		return wrap(d, a.check())
	case "unbound":
		a.Unbound = true
		return noArgs(d)
	default:
		return d.Errf("assertion: unrecognized option %q", name)
	}
	return nil
}

// asserter signs for a handler when the app has started: until then no
// placeholder is resolved.
type asserter struct {
	app    *App
	prefix string // of the handler's headers
	maker  atomic.Pointer[assertion.Maker]
}

func (a *asserter) start(settings *Assertion, repl *caddy.Replacer) error {
	config := settings.config()
	for name, value := range map[string]*string{"audience": &config.Audience, "issuer": &config.Issuer} {
		if *value == "" {
			continue // checked before
		}
		text, err := Resolve(repl, *value)
		if err != nil {
			return fmt.Errorf("assertion: %s: %w", name, err)
		}
		*value = text
	}
	maker, err := assertion.New(config)
	a.maker.Store(maker)
	return err
}

// assert implements the gate's Assert.
func (a *asserter) assert(r *http.Request, identity *verify.Identity) (string, error) {
	ctx := r.Context()
	live, err := a.app.live(ctx)
	if err != nil {
		return "", err
	}
	maker := a.maker.Load()
	if maker == nil { // the app has not started
		return "", engine.ErrNotReady
	}
	method, url := clientTarget(r)
	token, err := maker.Make(ctx, live.Signer, identity, method, url)
	if err == nil {
		caddyhttp.SetVar(ctx, assertionVar, &asserted{a.prefix, identity.ID, token})
	}
	return token, err
}

// assertionVar is the variable of a request that holds what was signed of it, for a
// second handler of ours on the same request: that one owns the same header fields,
// and may have no assertion of its own.
const assertionVar = "system_keys.assertion"

type asserted struct {
	prefix string
	key    store.ID
	token  string
}

// carry is the gate's Assert of a handler that signs nothing: what one before it has
// signed of the same key stays.
func carry(prefix string) func(*http.Request, *verify.Identity) (string, error) {
	return func(r *http.Request, identity *verify.Identity) (string, error) {
		have, ok := caddyhttp.GetVar(r.Context(), assertionVar).(*asserted)
		if !ok || have.prefix != prefix || have.key != identity.ID {
			return "", nil
		}
		return have.token, nil
	}
}

// clientTarget is the method and the URL, without its query, that the client has
// used: before any rewrite, and with the scheme and the host that the upstream
// gets as X-Forwarded-Proto and -Host, which are those of a proxy before us if
// that is trusted (addForwardedHeaders in Caddy's reverseproxy.go). A WebSocket
// over HTTP/2 or 3 (RFC 8441, RFC 9220) is the GET that the upstream gets.
func clientTarget(r *http.Request) (method, url string) {
	method, sent := original(r)
	if method == http.MethodConnect {
		method = http.MethodGet // others are refused
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		scheme = lastOr(r.Header["X-Forwarded-Proto"], scheme)
		host = lastOr(r.Header["X-Forwarded-Host"], host)
	}
	return method, assertion.Target(scheme, host, sent.EscapedPath())
}

func lastOr(values []string, otherwise string) string {
	if n := len(values); n > 0 && values[n-1] != "" {
		return values[n-1]
	}
	return otherwise
}

// publicKeys serves the keys by which assertions are verified.
type publicKeys struct {
	app     *App
	refuser *refuser
}

// asked reports whether the request is for the keys: as its client sent it, or as
// it was rewritten since.
func (*publicKeys) asked(r *http.Request) bool {
	if r.URL.Path == assertion.Path {
		return true
	}
	_, sent := original(r)
	return sent.Path == assertion.Path
}

// original is the request line as the client sent it.
func original(r *http.Request) (method string, target *url.URL) {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		return o.Method, o.URL
	}
	return r.Method, r.URL
}

// serve answers in any case. Error routes are not for it: nothing was taken away of what
// the client has sent, and one of them may be a proxy.
func (p *publicKeys) serve(w http.ResponseWriter, r *http.Request) {
	if method, _ := original(r); method != http.MethodGet && method != http.MethodHead {
		p.refuser.answer(w, r, &gate.Refusal{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Message: "the public keys can be read only", Header: http.Header{"Allow": {"GET, HEAD"}},
		})
		return
	}
	set, err := p.current(r.Context())
	if err != nil {
		p.refuser.answer(w, r, &gate.Refusal{
			Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: "the public keys cannot be read at the moment", Header: http.Header{"Retry-After": {"1"}}, Err: err,
		})
		return
	}
	set.ServeHTTP(w, r)
}

func (p *publicKeys) current(ctx context.Context) (*assertion.KeySet, error) {
	live, err := p.app.live(ctx)
	if err != nil {
		return nil, err
	}
	return live.Published.Current(ctx)
}
