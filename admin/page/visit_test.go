package page_test

import (
	"net/http"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestANonceIsGoodForOnce, for one session and one admin.
func TestANonceIsGoodForOnce(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			_, plain := p.MintAdmin(t)
			v := plane.Visit(t, p.URL)
			v.SignIn(plain)
			nonce := v.Get("/system/create").Nonce(t, "/api/system-keys")
			v.Post("/api/system-keys", "nonce", nonce, "label", "\x01", "permissions", "bots:read").Is(t, "a mistake", http.StatusUnprocessableEntity, "1 to 100 characters")
			v.Post("/api/system-keys", "nonce", nonce, "label", "first", "permissions", "bots:read").Is(t, "the same nonce after the mistake", http.StatusCreated, "lm_sys_")
			v.Post("/api/system-keys", "nonce", nonce, "label", "second", "permissions", "bots:read").Is(t, "the same nonce again", http.StatusConflict, "sent before")
			another := plane.Visit(t, p.URL)
			another.SignIn(plain)
			fresh := v.Get("/system/create").Nonce(t, "/api/system-keys")
			another.Post("/api/system-keys", "nonce", fresh, "label", "third", "permissions", "bots:read").Is(t, "of another session", http.StatusForbidden, "Open the form again")
			if n := p.Total(t); n != 2 {
				t.Errorf("there are %d keys, want 2", n)
			}
		})
	}
}

// TestWhatAnotherSiteMakesABrowserSendIsRefused on every form of the page.
func TestWhatAnotherSiteMakesABrowserSendIsRefused(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, plain := p.MintAdmin(t)
	bot, _ := p.Mint(t, "bot")
	v := plane.Visit(t, p.URL)
	home := v.SignIn(plain)
	create := v.Get("/system/create").Nonce(t, "/api/system-keys")
	revoke := "/api/system-keys/" + bot.ID.String() + "/revoke"
	ask := v.Get("/system/keys/"+bot.ID.String()+"/revoke").Nonce(t, revoke)
	for name, form := range map[string][]string{
		"sign in":  {"/system/session", "key", plain},
		"sign out": {"/system/session/end", "nonce", home.Nonce(t, "/system/session/end")},
		"create":   {"/api/system-keys", "nonce", create, "label", "forged", "permissions", "bots:read"},
		"revoke":   {revoke, "nonce", ask},
	} {
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		} {
			if a := v.PostWith(header, form[0], form[1:]...); a.Status != http.StatusForbidden || len(a.Header["Set-Cookie"]) > 0 {
				t.Errorf("%s with %v: got %d", name, header, a.Status)
			}
		}
	}
	v.Get("/system").Is(t, "still signed in", http.StatusOK, "2 key(s)")
}

// TestForgedCallsOfThePagesAPIAreRefused sends what a page of another site can make a
// browser send to /api/system-keys, with the cookie of an admin who is signed in.
// SameSite would keep the cookie back: here it comes all the same.
func TestForgedCallsOfThePagesAPIAreRefused(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, plain := p.MintAdmin(t)
	bot, _ := p.Mint(t, "bot")
	v := plane.Visit(t, p.URL)
	v.SignIn(plain)
	const keys, body, form = "/api/system-keys", `{"label":"forged","is_system":true}`, "application/x-www-form-urlencoded"
	key := keys + "/" + bot.ID.String()
	for name, header := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site"}, "a subdomain of the same site": {"Sec-Fetch-Site", "same-site"},
		"an older browser": {"Origin", "https://evil.example"}, "a sandboxed frame": {"Origin", "null"},
		"another port of this host": {"Origin", "http://127.0.0.1:1"},
	} {
		v.Send(http.MethodPost, keys, admin.MediaJSON, body, header...).Is(t, "JSON from "+name, http.StatusForbidden, "cross_origin")
		v.Send(http.MethodDelete, key, "", "", header...).Is(t, "a deletion from "+name, http.StatusForbidden, "cross_origin")
	}
	// A browser that sends none of these fields sends no other types without asking
	// first. Nobody answers that question.
	for _, mediaType := range []string{"text/plain", "text/plain; application/json", "multipart/form-data; boundary=x", ""} {
		v.Send(http.MethodPost, keys, mediaType, body).Is(t, "JSON as "+mediaType, http.StatusUnsupportedMediaType, "unsupported_media_type")
	}
	v.Post(keys, "label", "forged", "permissions", "bots:read").Is(t, "a form without a nonce", http.StatusForbidden, "Open the form again")
	v.Send(http.MethodPost, key, form, "_method=DELETE").Is(t, "a form in the place of a deletion", http.StatusMethodNotAllowed, "method_not_allowed")
	for _, path := range []string{keys, key} {
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			a := v.Send(http.MethodOptions, path, admin.MediaJSON, "", "Origin", "https://evil.example", "Access-Control-Request-Method", method)
			if a.Status < 400 || a.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("a preflight for %s %s: got %d %v", method, path, a.Status, a.Header)
			}
		}
	}
	if n := p.Total(t); n != 2 {
		t.Errorf("there are %d keys, want 2", n)
	}
}
