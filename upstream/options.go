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

// Option changes how a [Verifier] works. Options that cannot be meant make [New]
// panic.
type Option func(*Verifier)

// WithIssuer accepts assertions of this issuer, in place of "caddy-system-keys".
func WithIssuer(issuer string) Option {
	return func(v *Verifier) { v.issuer = issuer }
}

// WithLeeway sets how far the proxy's clock may differ from this one: 5 seconds by
// default, a minute at most.
func WithLeeway(leeway time.Duration) Option {
	return func(v *Verifier) {
		if leeway < 0 || leeway > time.Minute {
			panic(fmt.Sprintf("upstream: a leeway of %v is not from 0 to 1m", leeway))
		}
		v.leeway = leeway
	}
}

// WithBaseURL says under which URLs clients know this service, where the proxy, or
// what is between, changes the host or strips a part of the path: with
//
//	handle_path /v1/* {
//		reverse_proxy api:8000 {
//			header_up Host internal
//		}
//	}
//
// it is "https://api.example.com/v1". The path that arrives is appended. An
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

// WithTarget says what a client asked for, where [ClientTarget] and [WithBaseURL]
// cannot tell: behind a proxy that rewrites paths or methods.
func WithTarget(target func(r *http.Request) Target) Option {
	return func(v *Verifier) {
		v.targets = func(r *http.Request) []Target { return []Target{target(r)} }
	}
}

// WithoutBinding accepts assertions whatever request they were made for, and those
// that were made for none. Whoever gets hold of one can then use it for any request
// until it expires.
func WithoutBinding() Option {
	return func(v *Verifier) { v.targets = nil }
}

// WithHeaderPrefix sets the prefix that the proxy is configured to own, in place of
// "X-Lumio-".
func WithHeaderPrefix(prefix string) Option {
	return func(v *Verifier) {
		if !strings.HasSuffix(prefix, "-") || strings.Count(prefix, "-") < 2 {
			panic(fmt.Sprintf("upstream: %q is not a prefix as X-Lumio- is", prefix))
		}
		v.prefix = textproto.CanonicalMIMEHeaderKey(prefix)
	}
}

// WithHTTPClient reads the public keys with this client, in place of one that gives
// up after five seconds and follows no redirect. The question ends after five
// seconds in any case.
func WithHTTPClient(client *http.Client) Option {
	return func(v *Verifier) { v.keys.client = client }
}

// WithLogger sets where it is said why requests are refused, once a second at most;
// [slog.Default] by default.
func WithLogger(logger *slog.Logger) Option {
	return func(v *Verifier) { v.logger = logger }
}

// WithClock sets the clock, [time.Now] by default.
func WithClock(now func() time.Time) Option {
	return func(v *Verifier) { v.now = now }
}

// WithErrorHandler answers requests that are refused, in place of a JSON object. The
// error is one that [Verifier.Verify] returns, or an [*InsufficientError].
func WithErrorHandler(answer func(w http.ResponseWriter, r *http.Request, err error)) Option {
	return func(v *Verifier) { v.answer = answer }
}
