package admin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestWhoIsNoAdmin tries credentials that are not good, on a plane that knows
// keys and tokens and on one that trusts another handler.
func TestWhoIsNoAdmin(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	stranger := plane.NewIssuer(t)
	system := map[string]any{"sub": "u", "is_system": true}
	claims := func(name string, value any) map[string]any {
		return map[string]any{"sub": "u", "is_system": true, name: value}
	}
	for name, test := range map[string]struct {
		authorize func(*http.Request)
		status    int
	}{
		"a token":                              {plane.Bearer("lm_" + p.Issuer.Token(system)), 200},
		"in another case":                      {func(r *http.Request) { r.Header.Set("Authorization", "bEARER   lm_"+p.Issuer.Token(system)) }, 200},
		"a token without the prefix":           {plane.Bearer(p.Issuer.Token(system)), 401},
		"a token of another issuer's key":      {plane.Bearer("lm_" + stranger.Token(system)), 401},
		"an expired token":                     {plane.Bearer("lm_" + p.Issuer.Token(claims("exp", time.Now().Add(-time.Minute).Unix()))), 401},
		"a token for another audience":         {plane.Bearer("lm_" + p.Issuer.Token(claims("aud", "lumio"))), 401},
		"a token of another issuer":            {plane.Bearer("lm_" + p.Issuer.Token(claims("iss", "lumio"))), 401},
		"a token that says is_system in words": {plane.Bearer("lm_" + p.Issuer.Token(claims("is_system", "true"))), 403},
		"a token without permissions":          {plane.Bearer("lm_" + p.Issuer.Token(map[string]any{"sub": "u"})), 403},
		"a token with another permission":      {plane.Bearer("lm_" + p.Issuer.Token(map[string]any{"sub": "u", "permissions": "system-keys:delete"})), 403},
		"a token with the permission":          {plane.Bearer("lm_" + p.Issuer.Token(map[string]any{"sub": "u", "permissions": "system-keys:read"})), 200},
		"half a token":                         {plane.Bearer("lm_eyJ"), 401},
		"two credentials": {func(r *http.Request) {
			r.Header.Add("Authorization", "Bearer lm_"+p.Issuer.Token(system))
			r.Header.Add("Authorization", "Bearer lm_"+p.Issuer.Token(system))
		}, 400},
		"a user that nobody vouches for": {func(r *http.Request) { r.SetBasicAuth("ada", plane.Password) }, 401},
	} {
		p.As(test.authorize).Call(t, http.MethodGet, plane.KeysPath, "").Is(t, name, test.status, "")
	}

	// Where another handler is trusted, a credential of ours still decides, and a
	// user of whom nothing is said may do nothing.
	bob := p.ByName("bob")
	bob.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusForbidden, nil)
	bob.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`).Must(t, http.StatusCreated, nil)
	bob.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`, "Sec-Fetch-Site", "cross-site").Must(t, http.StatusForbidden, nil)
	bob.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`, "Origin", "https://evil.example").Must(t, http.StatusForbidden, nil)
	bob.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`, "Sec-Fetch-Site", "same-origin").Must(t, http.StatusCreated, nil)
}
