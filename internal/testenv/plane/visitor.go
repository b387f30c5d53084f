package plane

import (
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// Visitor is a browser without a window.
type Visitor struct {
	tb     testing.TB
	Base   string
	Client *http.Client
	// Header is sent with every request.
	Header http.Header
}

// Visit opens a browser for a site.
func Visit(tb testing.TB, base string) *Visitor {
	tb.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	client := &http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: stay,
	}
	return &Visitor{tb: tb, Base: base, Client: client, Header: http.Header{}}
}

// Send makes a request. The header has pairs of names and values.
func (v *Visitor) Send(method, path, mediaType, body string, header ...string) Reply {
	v.tb.Helper()
	request, err := http.NewRequestWithContext(v.tb.Context(), method, v.Base+path, strings.NewReader(body))
	if err != nil {
		v.tb.Fatal(err)
	}
	maps.Copy(request.Header, v.Header)
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	reply, _ := exchange(v.tb, v.Client, request, header)
	return reply
}

// Get asks for a path.
func (v *Visitor) Get(path string, header ...string) Reply {
	v.tb.Helper()
	return v.Send(http.MethodGet, path, "", "", header...)
}

// Post sends a form; the fields are pairs of names and values.
func (v *Visitor) Post(path string, fields ...string) Reply {
	v.tb.Helper()
	return v.PostWith(nil, path, fields...)
}

// PostWith sends a form with header fields.
func (v *Visitor) PostWith(header []string, path string, fields ...string) Reply {
	v.tb.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return v.Send(http.MethodPost, path, "application/x-www-form-urlencoded", form.Encode(), header...)
}

// Nonce is that of the form that is sent to a path.
func (a Reply) Nonce(tb testing.TB, action string) string {
	tb.Helper()
	_, form, found := strings.Cut(a.Body, `action="`+action+`"`)
	_, value, ok := strings.Cut(form, `name="nonce" value="`)
	if !found || !ok {
		tb.Fatalf("no form for %s in %d %s", action, a.Status, a.Body)
	}
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// SignIn signs in with a key, and returns the page.
func (v *Visitor) SignIn(key string) Reply {
	v.tb.Helper()
	if a := v.Post("/system/session", "key", key); a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/system" {
		v.tb.Fatalf("sign-in got %d %s", a.Status, a.Body)
	}
	return v.Get("/system").Is(v.tb, "the page", http.StatusOK, "System API Keys")
}
