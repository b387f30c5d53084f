package adminplane

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestWhatWasTakenAwayFromAPath: what a client has in front of our paths goes into links,
// unless somebody could read it as something else.
func TestWhatWasTakenAwayFromAPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sent, left, want string }{
		{"/system", "/system", ""},
		{"/lumio/system", "/system", "/lumio"},
		{"/a/b/system", "/system", "/a/b"},
		{"/LUMIO/system", "/system", "/LUMIO"},
		{"/lumio/system", "/other", ""},
		{"//evil.example/system", "/system", ""}, // would be another host
		{"/lumio//system", "/system", ""},
		{"/x/../lumio/system", "/system", ""},
		{`/\evil.example/system`, "/system", ""},
		{"/%6cumio/system", "/system", ""},
		{"/javascript:x/system", "/system", ""},
	} {
		sent, err := url.ParseRequestURI(c.sent)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.left, http.NoBody)
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, http.Request{URL: sent}))
		if got := takenAway(r); got != c.want {
			t.Errorf("of %s is left %s: taken away is %q, want %q", c.sent, c.left, got, c.want)
		}
	}
}
