package gate_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const live = "lm_sys_live"

// verifier knows one live key. It counts how often it was asked.
type verifier struct {
	err   error
	asked int
}

func (v *verifier) Verify(_ context.Context, key string) (*verify.Identity, error) {
	v.asked++
	switch {
	case v.err != nil:
		return nil, v.err
	case key != live:
		return nil, verify.ReasonRevoked
	}
	permissions := []string{"bots:read", "bots:write"}
	return &verify.Identity{
		Label:       "the label",
		Permissions: permissions,
		Headers:     header.Render("the-id", "the label", permissions),
	}, nil
}

// check takes a request through a gate.
func check(g *gate.Gate, r *http.Request, v *verifier, earlier *verify.Identity) (*verify.Identity, *gate.Refusal) {
	d := g.Read(r)
	if d.Key != "" {
		identity, err := v.Verify(r.Context(), d.Key)
		d.Admitted(store.ID{1}, identity, err)
	} else {
		d.Earlier(earlier)
	}
	g.Decide(r, &d)
	return d.Identity, d.Refusal
}

// signed signs as the proxy does, or nearly so.
func signed(_ *http.Request, identity *verify.Identity) (string, error) {
	return "signed for " + identity.Label, nil
}

func newGate(t *testing.T, change func(*gate.Config)) *gate.Gate {
	t.Helper()
	config := gate.Config{Prefix: "X-Lumio-"}
	if change != nil {
		change(&config)
	}
	g, err := gate.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestOrderOfChecks has requests with several things wrong: the first row of the
// documented table that fits is the answer.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	down := &verify.UnavailableError{RetryAfter: 1500 * time.Millisecond, Err: errors.New("down")}
	tests := []struct {
		name    string
		left    string // of Authorization, for another handler
		method  string
		target  string
		header  http.Header
		config  func(*gate.Config)
		err     error
		status  int
		code    string
		headers http.Header
	}{
		{
			name: "a tunnel, before anything else", method: http.MethodConnect,
			header: http.Header{"Authorization": {"a", "b"}, "Upgrade": {"foo"}},
			status: 405, code: "method_not_allowed",
			headers: http.Header{"Allow": {"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}},
		},
		{
			name: "CONNECT for another protocol, before two credentials", method: http.MethodConnect,
			header: http.Header{"Authorization": {"a", "b"}, ":protocol": {"connect-udp"}},
			status: 400, code: "invalid_request", headers: nil,
		},
		{
			name: "two credentials, also where one of them is good", header: http.Header{"Authorization": {"Bearer " + live, "Basic x"}},
			status: 400, code: "invalid_request", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="invalid_request"`}},
		},
		{
			name: "a key in the query, also beside a good one", target: "/?token=" + live, header: http.Header{"Authorization": {"Bearer " + live}},
			status: 400, code: "invalid_request", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="invalid_request"`}},
		},
		{
			name:   "two credentials are not anonymous",
			header: http.Header{"Authorization": {"Basic x", "Basic y"}}, config: func(c *gate.Config) { c.Passthrough = true },
			status: 400, code: "invalid_request", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="invalid_request"`}},
		},
		{
			name: "no key", status: 401, code: "unauthorized", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio"`}},
		},
		{
			name: "another credential is no key", header: http.Header{"Authorization": {"Basic x"}}, left: "Basic x",
			status: 401, code: "unauthorized", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio"`}},
		},
		{
			name: "a broken key is not passed through", header: http.Header{"Authorization": {"Token LM_SYS_x"}},
			config: func(c *gate.Config) { c.Passthrough = true },
			status: 401, code: "invalid_token", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="invalid_token"`}},
		},
		{
			name: "a dead key is not passed through", header: http.Header{"Authorization": {"Bearer lm_sys_dead"}},
			config: func(c *gate.Config) { c.Passthrough = true },
			status: 401, code: "invalid_token", headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="invalid_token"`}},
		},
		{
			name: "an outage is not a refusal", header: http.Header{"Authorization": {"Bearer " + live}}, err: down,
			status: 503, code: "unavailable", headers: http.Header{"Retry-After": {"2"}},
		},
		{
			name: "a client that went away", header: http.Header{"Authorization": {"Bearer " + live}}, err: context.Canceled,
			status: 503, code: "unavailable", headers: http.Header{"Retry-After": {"1"}},
		},
		{
			name: "a request that cannot be signed", header: http.Header{"Authorization": {"Bearer " + live}},
			config: func(c *gate.Config) {
				c.Assert = func(*http.Request, *verify.Identity) (string, error) { return "", errors.New("no key is published") }
			},
			status: 503, code: "unavailable", headers: http.Header{"Retry-After": {"1"}},
		},
		{
			name: "a permission that is missing, before the signature", header: http.Header{"Authorization": {"Bearer " + live}},
			config: func(c *gate.Config) {
				c.Require = []string{"chat:read"}
				c.Assert = func(*http.Request, *verify.Identity) (string, error) { return "", errors.New("no key is published") }
			},
			status: 403, code: "insufficient_scope",
			headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="insufficient_scope", scope="chat:read"`}},
		},
		{
			name: "another network, before a permission that is missing", header: http.Header{"Authorization": {"Bearer " + live}}, err: verify.ErrNetwork,
			config: func(c *gate.Config) { c.Require = []string{"bots:delete"} },
			status: 403, code: "network_not_allowed",
		},
		{
			name: "a permission that is missing", header: http.Header{"Authorization": {"Bearer " + live}},
			config: func(c *gate.Config) { c.Require = []string{"bots:read", "bots:delete"} },
			status: 403, code: "insufficient_scope",
			headers: http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="insufficient_scope", scope="bots:read bots:delete"`}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := request(test.method, test.target, test.header)
			if r.Header[":protocol"] != nil {
				r.ProtoMajor = 2
			}
			r.Header["X-Lumio-Key-Id"] = []string{"forged"}
			mentioned := strings.Contains(strings.ToLower(r.Header.Get("Authorization")), "lm_sys_")
			_, refusal := check(newGate(t, test.config), r, &verifier{err: test.err}, nil)
			if refusal == nil {
				t.Fatal("let through")
			}
			if refusal.Status != test.status || refusal.Code != test.code {
				t.Errorf("%d %s, want %d %s", refusal.Status, refusal.Code, test.status, test.code)
			}
			if diff := cmp.Diff(test.headers, refusal.Header); diff != "" {
				t.Error(diff)
			}
			if _, ok := r.Header["X-Lumio-Key-Id"]; ok {
				t.Error("a forged header is left for an error route that is a proxy")
			}
			if _, ok := r.Header["Authorization"]; ok && mentioned {
				t.Error("a key is left for an error route that is a proxy")
			}
			if got := r.Header.Get("Authorization"); test.left != "" && got != test.left {
				t.Errorf("%q is left of another handler's credential", got)
			}
		})
	}
}

func TestWhatPasses(t *testing.T) {
	t.Parallel()
	identified := http.Header{
		"X-Lumio-Auth-Type": {"system_key"}, "X-Lumio-Key-Id": {"the-id"},
		"X-Lumio-Key-Label": {"the label"}, "X-Lumio-Permissions": {"bots:read,bots:write"},
	}
	with := func(name, value string) http.Header {
		h := identified.Clone()
		h[name] = []string{value}
		return h
	}
	tests := []struct {
		name   string
		header http.Header
		config func(*gate.Config)
		want   http.Header
		asked  int
	}{
		{"a live key", http.Header{"Authorization": {"Bearer " + live}}, nil, identified, 1},
		{"the scheme in another case and with more spaces", http.Header{"Authorization": {"bEARER   " + live}}, nil, identified, 1},
		{
			"a live key that holds what is required",
			http.Header{"Authorization": {"Bearer " + live}},
			func(c *gate.Config) { c.Require = []string{"bots:write", "bots:read"} }, identified, 1,
		},
		{
			"with the credential, if it is to be kept",
			http.Header{"Authorization": {"Bearer " + live}},
			func(c *gate.Config) { c.KeepCredential = true }, with("Authorization", "Bearer "+live), 1,
		},
		{
			"a live key over forged headers", http.Header{
				"Authorization": {"Bearer " + live}, "X-Lumio-Key-Id": {"a", "b"}, "X_lumio_key_label": {"c"}, "X-Lumio-Other": {"d"},
			}, nil, identified, 1,
		},
		{"nobody, through an open gate", http.Header{"X-Lumio-Key-Id": {"forged"}}, func(c *gate.Config) { c.Passthrough = true }, http.Header{}, 0},
		{
			"a live key, whose request is signed, over a forged assertion",
			http.Header{"Authorization": {"Bearer " + live}, "X-Lumio-Assertion": {"forged", "twice"}, "x_lumio_assertion": {"forged"}},
			func(c *gate.Config) { c.Assert = signed }, with("X-Lumio-Assertion", "signed for the label"), 1,
		},
		{
			"nobody, for whom nothing is signed",
			http.Header{"X-Lumio-Assertion": {"forged"}},
			func(c *gate.Config) { c.Assert, c.Passthrough = signed, true },
			http.Header{},
			0,
		},
		{
			"a live key where nothing is signed, with a forged assertion",
			http.Header{"Authorization": {"Bearer " + live}, "X-Lumio-Assertion": {"forged"}},
			nil, identified, 1,
		},
		{
			"another credential, through an open gate and untouched",
			http.Header{"Authorization": {"Bearer lm_eyJ.x.y"}, "X-Lumio-Key-Id": {"forged"}},
			func(c *gate.Config) { c.Passthrough = true },
			http.Header{"Authorization": {"Bearer lm_eyJ.x.y"}},
			0,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := request("", "", test.header)
			v := new(verifier)
			if _, refusal := check(newGate(t, test.config), r, v, nil); refusal != nil {
				t.Fatal(refusal)
			}
			if diff := cmp.Diff(test.want, r.Header); diff != "" {
				t.Error(diff)
			}
			if v.asked != test.asked {
				t.Errorf("the verifier was asked %d times, want %d", v.asked, test.asked)
			}
		})
	}
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]gate.Config{
		"an open gate that requires something": {Prefix: "X-Lumio-", Passthrough: true, Require: []string{"a:b"}},
		"no prefix":                            {},
		"a prefix of everybody":                {Prefix: "X-"},
		"a prefix that folds":                  {Prefix: "X_Lumio_"},
	} {
		if _, err := gate.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func request(method, target string, h http.Header) *http.Request {
	if method == "" {
		method = http.MethodGet
	}
	if target == "" {
		target = "/"
	}
	r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
	r.Method = method
	r.Header = http.Header{}
	maps.Copy(r.Header, h)
	return r
}

// TestTwoGatesInARow is a route with a stricter block of its own, in front of one
// for the whole site.
func TestTwoGatesInARow(t *testing.T) {
	t.Parallel()
	strict := newGate(t, func(c *gate.Config) { c.Require = []string{"bots:read"}; c.Prefix = "X-Acme-" })
	stricter := newGate(t, func(c *gate.Config) { c.Require = []string{"bots:delete"} })
	open := newGate(t, func(c *gate.Config) { c.Passthrough = true })

	r := request("", "", http.Header{"Authorization": {"Bearer " + live}})
	identity, refusal := check(strict, r, new(verifier), nil)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal = check(open, r, new(verifier), identity); refusal != nil {
		t.Fatal(refusal)
	}
	for _, name := range []string{"X-Acme-Key-Id", "X-Lumio-Key-Id"} {
		if got := r.Header.Get(name); got != "the-id" {
			t.Errorf("%s is %q", name, got)
		}
	}
	if _, refusal = check(stricter, r, new(verifier), identity); refusal == nil || refusal.Status != http.StatusForbidden {
		t.Errorf("the second gate's own requirement was not checked: %v", refusal)
	}
}

func TestKeysInTheQuery(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{
		"token=" + live:          400,
		"TOKEN=" + live:          400,
		"%74oken=lm%5fsys_x":     400,
		"token=lm%5fsys_abc%zz":  400,
		"token=lm%5fsys_abc%":    400,
		"a=b;token=Lm_sys_x":     400,
		"token=abc":              401,
		"q=" + live:              401,
		"token":                  401,
		"":                       401,
		"token=lm%255fsys_x":     401, // decoded once, as an upstream does
		"tokens=lm_sys_x&x=%zz%": 401,
	} {
		_, refusal := check(newGate(t, nil), request("", "/?"+query, nil), new(verifier), nil)
		if refusal == nil || refusal.Status != want {
			t.Errorf("%q: %v", query, refusal)
		}
	}
}

// TestEditsOfOneRequestDoNotReachTheNext has a handler edit the fields of a request where
// they are, as request_header does.
func TestEditsOfOneRequestDoNotReachTheNext(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil)
	identity := verify.IdentityOf(&store.Key{Label: "ci", Permissions: []string{"a:b"}})
	sent := func() http.Header {
		r := request("", "", http.Header{})
		g.Decide(r, &gate.Decision{Identity: identity})
		return r.Header
	}
	first := sent()
	want := first.Clone()
	for name := range first {
		first[name][0] = "edited"
	}
	if diff := cmp.Diff(want, sent()); diff != "" {
		t.Errorf("the next request (-want +got):\n%s", diff)
	}
}
