package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// The errors of [Verifier.Verify]. Match them with [errors.Is].
var (
	// ErrMissing says that a request carries no assertion.
	ErrMissing = errors.New("there is no assertion")
	// ErrInvalid says that a request is not what the proxy has signed.
	ErrInvalid = errors.New("the assertion is not valid")
	// ErrUnavailable says that the assertion cannot be verified at the moment.
	ErrUnavailable = errors.New("the public keys of the proxy cannot be had")
)

// DefaultIssuer is the issuer of assertions, unless the proxy is configured otherwise.
const DefaultIssuer = "caddy-system-keys"

// defaultLeeway is how far clocks may differ: see [WithLeeway].
const defaultLeeway = 5 * time.Second

// Verifier verifies assertions. It is safe for concurrent use. A process needs one for
// each audience.
type Verifier struct {
	keys *keys // nil with shared secrets
	// shared are the secrets by id, nil without any. An algorithm goes with either, so no
	// token can choose one.
	shared map[string]*secret
	// headers are the ids of the secrets, by the JOSE header that the proxy writes.
	headers    map[string]string
	remembered remembered

	audience string
	issuer   string
	prefix   string // canonical
	leeway   time.Duration
	now      func() time.Time
	logger   *slog.Logger
	logged   atomic.Int64 // the second in which something was logged last
	answer   func(w http.ResponseWriter, r *http.Request, err error)
	// targets returns the targets for which an assertion may have been made. Nil allows
	// any target.
	targets func(r *http.Request) []Target
}

// New makes a verifier of assertions for an audience, the one in the proxy's
// configuration. The public keys are at jwksURL: /.well-known/lumio-keys.json of any
// instance, or of all instances behind one name. New does not read them yet.
//
// New panics if the URL is not one of http or https, or if the audience is empty. A
// service that cannot tell who calls it should not start.
func New(jwksURL, audience string, options ...Option) *Verifier {
	u, err := url.Parse(jwksURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		panic("upstream: the URL of the keys is not of the form https://host/path")
	}
	v := newVerifier(audience)
	v.keys = newKeys(jwksURL)
	return v.With(options...)
}

func newVerifier(audience string) *Verifier {
	if audience == "" {
		panic("upstream: an audience is required")
	}
	return &Verifier{
		audience: audience, issuer: DefaultIssuer, prefix: "X-Lumio-", leeway: defaultLeeway,
		now:     time.Now, //nolint:forbidigo // the default clock
		logger:  slog.Default(),
		answer:  answer,
		targets: func(r *http.Request) []Target { return []Target{ClientTarget(r)} },
	}
}

// With changes how the verifier works, and returns it. It is for the options of a verifier
// of [NewShared], before its first request.
func (v *Verifier) With(options ...Option) *Verifier {
	for _, option := range options {
		option(v)
	}
	if v.keys != nil {
		v.keys.now = v.now
	}
	return v
}

// Verify returns who sent a request, by the assertion in its header. It does not change
// the request: unsigned header fields stay in it. [Verifier.Require] and
// [Verifier.Identify] take them out.
func (v *Verifier) Verify(r *http.Request) (*Identity, error) {
	values := r.Header[v.prefix+"Assertion"]
	switch len(values) {
	case 0:
		return nil, ErrMissing
	case 1:
	default:
		return nil, invalid(errors.New("there are several"))
	}
	text := values[0]
	c, known := v.remembered.find(text)
	if !known {
		var err error
		if c, err = v.verify(r.Context(), text); err != nil {
			return nil, err
		}
	}
	if err := v.check(c, r); err != nil {
		return nil, invalid(err)
	}
	if !known && c.Method == "" && c.URL == "" { // only [WithoutBinding] has let it pass
		v.remembered.add(text, c, v.now(), v.leeway)
	}
	return c.identity(), nil
}

// verify returns what an assertion says, if the proxy has signed it.
func (v *Verifier) verify(ctx context.Context, text string) (*claims, error) {
	t, err := v.parse(text)
	if err != nil {
		return nil, invalid(err)
	}
	if err := v.authenticate(ctx, t); err != nil {
		return nil, err
	}
	c, err := t.claims()
	if err != nil {
		return nil, invalid(err)
	}
	return c, nil
}

// check compares the claims of a verified assertion with what this service expects.
func (v *Verifier) check(c *claims, r *http.Request) error {
	switch {
	case c.Issuer != v.issuer:
		return errors.New("it is of another issuer")
	case c.Audience != v.audience:
		return errors.New("it is for another audience")
	}
	if err := c.checkTimes(v.now(), v.leeway); err != nil {
		return err
	}
	switch {
	case v.targets == nil:
		return nil
	case c.Method == "" && c.URL == "":
		return errors.New("it was made for no request in particular")
	case !slices.Contains(v.targets(r), Target{c.Method, c.URL}):
		return errors.New("it was made for another request")
	}
	return nil
}

func invalid(why error) error { return fmt.Errorf("%w: %w", ErrInvalid, why) }

func unavailable(why error) error { return fmt.Errorf("%w: %w", ErrUnavailable, why) }
