package header_test

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

// FuzzStrip plays a request with arbitrary fields, Connection and trailers
// through Strip, Inject and what reverse_proxy does to it, and holds that
// nothing of the client is left under the prefix, that everything injected is,
// and that nothing else was touched.
func FuzzStrip(f *testing.F) {
	f.Add("X-Lumio-Key-Id\nx_lumio_key_id\nAccept", "close, X-Lumio-Key-Id\nUpgrade", "X-Lumio-Key-Id\nX-Sum")
	f.Add("X.Lumio.Key.Id\nCookie\nX-Lumio", " ,\tx-LUMIO-key-label ,,keep-alive", "x_lumio_\nAuthorization")
	f.Add("", "authorization", "")
	f.Add("Accept", "Accept, X-Lumio-Permissions\nX-Lumio-Auth-Type", "Accept")
	f.Add("X Lumio Key\nX-Lumio", "X-Lumio-\u212aey-Id", "X-Lum\u0131o-A")
	owner := newOwner(f, "X-Lumio-")
	values := header.Render(keyID, "Ünï", []string{"a:b"})
	injected := []string{"X-Lumio-Auth-Type", "X-Lumio-Key-Id", "X-Lumio-Key-Label", "X-Lumio-Permissions"}

	f.Fuzz(func(t *testing.T, names, connection, trailers string) {
		r := &http.Request{ContentLength: -1, Header: http.Header{"Authorization": {"theirs"}}, Trailer: http.Header{}}
		for name := range strings.SplitSeq(names, "\n") {
			r.Header[name] = []string{"theirs"}
			r.Header.Add(name, "theirs") // canonical, if it can be
		}
		r.Header["Connection"] = strings.Split(connection, "\n")
		r.Body = &scriptedBody{Reader: strings.NewReader("data"), err: io.EOF, atEnd: func() {
			for name := range strings.SplitSeq(trailers, "\n") {
				r.Trailer.Add(name, "theirs")
			}
		}}
		before := r.Header.Clone()

		owner.Strip(r, nil)
		for name := range r.Header {
			if owner.Owns(name) {
				t.Errorf("%q survived", name)
			}
		}
		for name := range before {
			if _, ok := r.Header[name]; !ok && name != "Connection" && !owner.Owns(name) {
				t.Errorf("%q was removed", name)
			}
		}
		kept := tokens(r.Header["Connection"])
		for _, token := range tokens(before["Connection"]) {
			if protected := owner.Owns(token) || strings.EqualFold(token, "Authorization"); protected == slices.Contains(kept, token) {
				t.Errorf("token %q: protected %v, connection is now %q", token, protected, r.Header["Connection"])
			}
		}

		owner.Inject(r.Header, &values)
		for _, token := range tokens(r.Header["Connection"]) {
			r.Header.Del(token) // as removeConnectionHeaders does
		}
		for name, lines := range r.Header {
			if owner.Owns(name) && (len(lines) != 1 || !slices.Contains(injected, name) || lines[0] == "theirs") {
				t.Errorf("upstream receives %q: %q", name, lines)
			}
		}
		for _, name := range injected {
			if len(r.Header[name]) != 1 {
				t.Errorf("upstream misses %q, connection was %q", name, connection)
			}
		}
		if slices.ContainsFunc(kept, func(token string) bool { return http.CanonicalHeaderKey(token) == "Authorization" }) {
			t.Errorf("connection removes Authorization: %q", kept)
		}

		if _, err := io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
		for name := range r.Trailer {
			if owner.Owns(name) || strings.EqualFold(name, "Authorization") {
				t.Errorf("trailer %q survived", name)
			}
		}
		for name := range strings.SplitSeq(trailers, "\n") {
			if protected := owner.Owns(name) || strings.EqualFold(name, "Authorization"); !protected && r.Trailer[http.CanonicalHeaderKey(name)] == nil {
				t.Errorf("trailer %q was removed", name)
			}
		}
	})
}

// tokens splits lines as reverse_proxy does.
func tokens(lines []string) []string {
	var all []string
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if token = textproto.TrimString(token); token != "" {
				all = append(all, token)
			}
		}
	}
	return all
}
