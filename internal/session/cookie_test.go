package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/session"
)

// browser sends back what it was told to keep.
func browser(t *testing.T, set http.Header) (*http.Request, *http.Cookie) {
	t.Helper()
	cookies := (&http.Response{Header: set}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.AddCookie(cookies[0])
	return r, cookies[0]
}

func TestATokenComesBackAsItWasSet(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{true, false} {
		token, h := session.NewToken(), http.Header{}
		session.Set(h, token, session.Scope{Secure: secure})
		r, cookie := browser(t, h)
		if got, ok := session.Read(r, session.Scope{Secure: secure}); !ok || got != token {
			t.Errorf("secure %v: read %v", secure, ok)
		}
		if _, ok := session.Read(r, session.Scope{Secure: !secure}); ok {
			t.Errorf("secure %v: the cookie counts the other way too", secure)
		}
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" ||
			cookie.MaxAge != 8*60*60 || cookie.Secure != secure || strings.HasPrefix(cookie.Name, "__Host-") != secure {
			t.Errorf("secure %v: %+v", secure, cookie)
		}
	}
}

func TestWhatIsNoTokenIsNone(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	session.Set(h, session.NewToken(), session.Scope{Secure: true})
	_, good := browser(t, h)
	for name, cookie := range map[string]string{
		"none":             "",
		"empty":            good.Name + "=",
		"too short":        good.Name + "=" + good.Value[:42],
		"too long":         good.Name + "=" + good.Value + "AAAA",
		"another spelling": good.Name + "=" + good.Value + "=",
		"there twice":      good.Name + "=" + good.Value + "; " + good.Name + "=" + good.Value,
		"another name":     strings.TrimPrefix(good.Name, "__Host-") + "=" + good.Value,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Cookie", cookie)
		if _, ok := session.Read(r, session.Scope{Secure: true}); ok {
			t.Errorf("%s: is a token", name)
		}
	}
}

// TestPagesBelowDifferentMountsHaveTheirOwnCookies on one host. __Host- allows them no other
// path than /.
func TestPagesBelowDifferentMountsHaveTheirOwnCookies(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	mounted := session.Scope{Secure: true, Mount: "/lumio"}
	session.Set(h, session.NewToken(), mounted)
	_, cookie := browser(t, h)
	if !strings.HasPrefix(cookie.Name, "__Host-system_keys_session_") || cookie.Path != "/" {
		t.Errorf("the cookie is %+v", cookie)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.AddCookie(cookie)
	for name, scope := range map[string]session.Scope{"at the root": {Secure: true}, "below another mount": {Secure: true, Mount: "/other"}} {
		if _, ok := session.Read(r, scope); ok {
			t.Errorf("%s it is a token", name)
		}
	}
	if _, ok := session.Read(r, mounted); !ok {
		t.Error("below its mount it is none")
	}
}

func TestATokenDoesNotPrint(t *testing.T) {
	t.Parallel()
	token := session.NewToken()
	h := http.Header{}
	session.Set(h, token, session.Scope{Secure: true})
	_, cookie := browser(t, h)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, token); text != "[redacted]" && text != `"[redacted]"` || strings.Contains(text, cookie.Value) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestStripLeavesTheCookiesOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want []string }{
		"none":                     {nil, nil},
		"others alone":             {[]string{"a=1; b=2"}, []string{"a=1; b=2"}},
		"ours alone":               {[]string{"__Host-system_keys_session=x"}, nil},
		"without TLS":              {[]string{"system_keys_session=x"}, nil},
		"the language":             {[]string{"system_keys_language=de"}, nil},
		"between others":           {[]string{"a=1; __Host-system_keys_session=x; b=2"}, []string{"a=1; b=2"}},
		"in fields of their own":   {[]string{"a=1", "__Host-system_keys_session=x", "b=2"}, []string{"a=1", "b=2"}},
		"twice":                    {[]string{"system_keys_session=x;system_keys_session=y;a=1"}, []string{"a=1"}},
		"blanks around":            {[]string{"a=1 ;  system_keys_session =x"}, []string{"a=1"}},
		"below a mount":            {[]string{"__Host-system_keys_session_1a2b3c4d=x; system_keys_language_1a2b3c4d=de; a=1"}, []string{"a=1"}},
		"a name that is longer":    {[]string{"my_system_keys_session=x"}, []string{"my_system_keys_session=x"}},
		"a value that mentions it": {[]string{"a=system_keys_session"}, []string{"a=system_keys_session"}},
	} {
		h := http.Header{}
		if c.in != nil {
			h["Cookie"] = c.in
		}
		session.Strip(h)
		if diff := cmp.Diff(c.want, h["Cookie"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestStripCostsOthersNothing(t *testing.T) {
	h := http.Header{"Cookie": {"a=1; b=2"}}
	if n := testing.AllocsPerRun(100, func() { session.Strip(h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
