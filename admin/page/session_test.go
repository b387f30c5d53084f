package page_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestSignInTakesLiveKeysAlone and says no more of others than that.
func TestSignInTakesLiveKeysAlone(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	gone, revoked := p.MintAdmin(t)
	p.Revoke(t, gone)
	var answers []string
	for name, key := range map[string]string{
		"none": "", "no key": "hunter2", "unminted": "lm_sys_" + strings.Repeat("0", 76), "revoked": revoked, "a token": "lm_eyJ",
		"two": revoked + " " + revoked,
	} {
		a := plane.Visit(t, p.URL).Post("/system/session", "key", key).Is(t, name, http.StatusUnauthorized, "This key is not valid.")
		if len(a.Header["Set-Cookie"]) > 0 || strings.Contains(a.Body, "lm_sys_0") {
			t.Errorf("%s: got %v %s", name, a.Header, a.Body)
		}
		answers = append(answers, a.Body)
	}
	if slices.Sort(answers); len(slices.Compact(answers)) != 1 {
		t.Error("the answers differ")
	}
	plane.Visit(t, p.URL).Send(http.MethodPost, "/system/session", admin.MediaJSON, `{"key":"x"}`).Is(t, "JSON", http.StatusUnsupportedMediaType, "cannot be understood")
}

// TestASessionEnds by sign-out, with its key, and when the key expires or is
// replaced; whatever the browser still sends.
func TestASessionEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end func(t *testing.T, p *plane.Plane, key *store.Key, v *plane.Visitor)
		// statement is what another service does to the key.
		statement string
	}{
		"by sign-out": {end: func(t *testing.T, _ *plane.Plane, _ *store.Key, v *plane.Visitor) {
			v.Post("/system/session/end", "nonce", v.Get("/system").Nonce(t, "/system/session/end")).Is(t, "sign-out", http.StatusOK, "signed out")
		}},
		"by the next sign-in": {end: func(t *testing.T, p *plane.Plane, _ *store.Key, v *plane.Visitor) {
			_, other := p.MintAdmin(t)
			v.SignIn(other)
		}},
		"with its key":               {end: func(t *testing.T, p *plane.Plane, key *store.Key, _ *plane.Visitor) { p.Revoke(t, key) }},
		"with its key, by plain SQL": {statement: "DELETE FROM system_keys"},
		"when its key expires":       {statement: "UPDATE system_keys SET expires_at = now()"},
		"when its key is another":    {statement: "UPDATE system_keys SET key_hash = key_hash || 'x'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options plane.Options
			if test.statement != "" {
				options.DSN = testenv.Database(t)
			}
			p := plane.New(t, options)
			key, plain := p.MintAdmin(t)
			v, stolen := plane.Visit(t, p.URL), plane.Visit(t, p.URL)
			v.SignIn(plain)
			at, err := url.Parse(p.URL)
			if err != nil {
				t.Fatal(err)
			}
			stolen.Client.Jar.SetCookies(at, v.Client.Jar.Cookies(at))
			stolen.Get("/api/system-keys").Is(t, "before", http.StatusOK, "Ada")
			if test.statement != "" {
				execute(t, options.DSN, test.statement)
			} else {
				test.end(t, p, key, v)
			}
			stolen.Send(http.MethodPost, "/api/system-keys", admin.MediaJSON, `{"label":"late"}`).
				Is(t, "a write", http.StatusUnauthorized, "unauthorized")
			stolen.Get("/api/system-keys").Is(t, "a read", http.StatusUnauthorized, "unauthorized")
			a := stolen.Get("/system").Is(t, "the page", http.StatusOK, "Your session has ended")
			if cookie := a.Header.Get("Set-Cookie"); !strings.Contains(cookie, "Max-Age=0") {
				t.Errorf("the cookie stays: %q", cookie)
			}
		})
	}
}

// TestASessionIsFencedAsItsKeyIs at each request, from its sign-in on.
func TestASessionIsFencedAsItsKeyIs(t *testing.T) {
	t.Parallel()
	options := plane.Options{DSN: testenv.Database(t)}
	p := plane.New(t, options)
	key, plain := p.MintAdmin(t)
	v := plane.Visit(t, p.URL)
	v.SignIn(plain)
	outside := func(when string) {
		t.Helper()
		v.Get("/system").Is(t, when+", the page", http.StatusForbidden, "Not from this network")
		v.Get("/api/system-keys").Is(t, when+", a read", http.StatusForbidden, "network_not_allowed")
		v.Send(http.MethodPost, "/api/system-keys", admin.MediaJSON, `{"label":"late"}`).Is(t, when+", a write", http.StatusForbidden, "network_not_allowed")
	}
	execute(t, options.DSN, "UPDATE system_keys SET networks = '{192.0.2.0/24}'")
	outside("fenced")
	plane.Visit(t, p.URL).Post("/system/session", "key", plain).Is(t, "a sign-in from outside", http.StatusForbidden, "Not from this network")
	execute(t, options.DSN, "UPDATE system_keys SET networks = '{127.0.0.0/8,::1}'")
	v.Get("/system").Is(t, "the page from inside", http.StatusOK, "127.0.0.0/8")
	execute(t, options.DSN, "UPDATE system_keys SET networks = '{::ffff:128.0.0.0/97}'")
	outside("fenced again")
	execute(t, options.DSN, "UPDATE system_keys SET networks = '{}'")
	v.Get("/api/system-keys").Is(t, "a key without networks", http.StatusOK, key.ID.String())
}

// execute runs a statement as another service would.
func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestAdminsSignInByThemselves whom the request itself names, and may use forms.
func TestAdminsSignInByThemselves(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	for name, c := range map[string]struct {
		header http.Header
		base   string
		status int
		shows  string
	}{
		"a system admin by token": {http.Header{"Authorization": {"Bearer lm_" + p.Issuer.Token(map[string]any{"sub": "u-17", "name": "Grace", "is_system": true})}}, p.URL, 200, "Signed in as Grace"},
		"a system admin by name":  {basic("ada"), p.Trusting, 200, "Signed in as ada"},
		"a person without access": {basic("bob"), p.Trusting, 403, "admin:access"},
		"a bad token":             {http.Header{"Authorization": {"Bearer lm_eyJ"}}, p.URL, 401, "not valid"},
	} {
		v := plane.Visit(t, c.base)
		v.Header = c.header
		home := v.Get("/system").Is(t, name, c.status, c.shows)
		if c.status != http.StatusOK {
			continue
		}
		if strings.Contains(home.Body, "Sign out") {
			t.Errorf("%s: there is nothing to sign out of", name)
		}
		nonce := v.Get("/system/create").Nonce(t, "/api/system-keys")
		v.Post("/api/system-keys", "nonce", nonce, "label", "by form", "permissions", "bots:read").Is(t, name, http.StatusCreated, "lm_sys_")
		other := plane.Visit(t, c.base) // another browser of the same admin
		other.Header = c.header
		other.Get("/system")
		nonce = v.Get("/system/create").Nonce(t, "/api/system-keys")
		other.Post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "bots:read").Is(t, name+", in another browser", http.StatusForbidden, "Open the form again")
	}
}

// basic are the credentials of somebody whom basic_auth knows.
func basic(name string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+plane.Password))}}
}
