package upstream

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// Option changes how a [Verifier] works. [New] and [Verifier.With] panic over an option
// with an impossible value.
type Option func(*Verifier)

// WithIssuer accepts assertions of this issuer, in place of [DefaultIssuer].
func WithIssuer(issuer string) Option {
	return func(v *Verifier) { v.issuer = issuer }
}

// WithLeeway sets how far the proxy's clock may differ from the clock of this service.
// The default is 5 seconds, the maximum a minute.
func WithLeeway(leeway time.Duration) Option {
	return func(v *Verifier) {
		if leeway < 0 || leeway > time.Minute {
			panic(fmt.Sprintf("upstream: a leeway of %v is not from 0 to 1m", leeway))
		}
		v.leeway = leeway
	}
}

// WithBaseURL says under which URLs clients know this service. It is needed if the
// proxy, or something behind it, changes the host or strips a part of the path. With
//
//	handle_path /v1/* {
//		reverse_proxy api:8000 {
//			header_up Host internal
//		}
//	}
//
// the base is "https://api.example.com/v1". The path that arrives is appended to it. An
// assertion fits if it was made for the URL under any of the bases.
func WithBaseURL(bases ...string) Option {
	return func(v *Verifier) {
		normal := make([]string, 0, len(bases))
		for _, base := range bases {
			u, err := url.Parse(base)
			if err != nil || u.Scheme == "" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
				panic(fmt.Sprintf("upstream: %q is not of the form https://host/path", base))
			}
			normal = append(normal, origin(u.Scheme, u.Host)+strings.TrimSuffix(u.EscapedPath(), "/"))
		}
		v.targets = func(r *http.Request) []Target {
			targets := make([]Target, 0, len(normal))
			for _, base := range normal {
				targets = append(targets, Target{r.Method, base + escapedPath(r)})
			}
			return targets
		}
	}
}

// WithTarget says what a client asked for. It is needed behind a proxy that rewrites
// paths or methods, where [ClientTarget] and [WithBaseURL] cannot tell.
func WithTarget(target func(r *http.Request) Target) Option {
	return func(v *Verifier) {
		v.targets = func(r *http.Request) []Target { return []Target{target(r)} }
	}
}

// WithoutBinding accepts an assertion for any request, also one that was made for no
// request in particular. If somebody gets hold of an assertion, they can use it for any
// request until it expires.
func WithoutBinding() Option {
	return func(v *Verifier) { v.targets = nil }
}

// WithHeaderPrefix sets the prefix of header fields that the proxy owns, in place of
// "X-Lumio-". It must be the header_prefix of the proxy's configuration.
func WithHeaderPrefix(prefix string) Option {
	return func(v *Verifier) {
		if !strings.HasSuffix(prefix, "-") || strings.Count(prefix, "-") < 2 {
			panic(fmt.Sprintf("upstream: %q is not a prefix as X-Lumio- is", prefix))
		}
		v.prefix = textproto.CanonicalMIMEHeaderKey(prefix)
	}
}

// WithHTTPClient reads the public keys with this client. The default client follows no
// redirect. Each request for the keys ends after five seconds with any client. A verifier
// of [NewShared] reads none.
func WithHTTPClient(client *http.Client) Option {
	return func(v *Verifier) {
		if v.keys == nil {
			panic("upstream: a verifier with shared secrets reads no public keys")
		}
		v.keys.client = client
	}
}

// WithLogger sets the log for why requests are refused. It gets one line a second at
// most. The default is [slog.Default].
func WithLogger(logger *slog.Logger) Option {
	return func(v *Verifier) { v.logger = logger }
}

// WithClock sets the clock. The default is [time.Now].
func WithClock(now func() time.Time) Option {
	return func(v *Verifier) { v.now = now }
}

// WithErrorHandler sets the answer to a request that is refused. The default answer is a
// JSON object. The error is one that [Verifier.Verify] returns, or an
// [*InsufficientError].
func WithErrorHandler(answer func(w http.ResponseWriter, r *http.Request, err error)) Option {
	return func(v *Verifier) { v.answer = answer }
}
