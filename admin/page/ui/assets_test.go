package ui_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
)

// limit is what the assets may weigh, compressed.
const limit = 60 << 10

func TestEveryAssetOfThePageIsServed(t *testing.T) {
	t.Parallel()
	u := ui.New("", "/system")
	total, found := 0, map[string]bool{}
	elements(t, draw(t, ui.English, ui.SignIn{}, false), func(_ *html.Node, attributes map[string]string) {
		for _, name := range []string{"src", "href"} {
			address := attributes[name]
			if !strings.HasPrefix(address, "/system/assets/") || found[address] {
				continue
			}
			found[address] = true
			plain, small := fetch(t, u, address, ""), fetch(t, u, address, "br, gzip")
			unpacked, err := gzip.NewReader(small.Body)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(unpacked)
			if err != nil || string(text) != plain.Body.String() || len(text) == 0 {
				t.Errorf("%s: compressed, it is another file (%v)", address, err)
			}
			if plain.Header().Get("Content-Type") == "" || !strings.Contains(plain.Header().Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %v", address, plain.Header())
			}
			total += fetch(t, u, address, "gzip").Body.Len()
		}
	})
	if len(found) != 3 || total > limit {
		t.Errorf("%d assets of %d bytes in all", len(found), total)
	}
	t.Logf("%d bytes in all", total)
}

func fetch(t *testing.T, u *ui.UI, address, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	r.Header.Set("Accept-Encoding", accept)
	w := httptest.NewRecorder()
	if !u.Asset(w, r, path.Base(address)) {
		t.Fatalf("%s is not there", address)
	}
	return w
}

func TestAnAssetHasOneName(t *testing.T) {
	t.Parallel()
	u := ui.New("", "/system")
	for _, name := range []string{"app.js", "app.000000000000.js", "", "..", "frame.html"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/system/assets/x", http.NoBody)
		if u.Asset(httptest.NewRecorder(), r, name) {
			t.Errorf("%q is an asset", name)
		}
	}
}
