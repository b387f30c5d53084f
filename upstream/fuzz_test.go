package upstream_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

// FuzzVerify sends texts as assertions to a verifier that knows two keys. Nothing is
// accepted but the ones that are known to be good, byte for byte.
func FuzzVerify(f *testing.F) {
	file, err := os.ReadFile(vectorsFile)
	if err != nil {
		f.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(file, &v); err != nil {
		f.Fatal(err)
	}
	good := make(map[string]bool)
	for _, c := range v.Cases {
		f.Add(c.Assertion)
		good[c.Assertion] = good[c.Assertion] || c.Accepted
	}
	verifier := verifierOf(&v)
	f.Fuzz(func(t *testing.T, assertion string) {
		r := httptest.NewRequest(http.MethodGet, "/bots/17", http.NoBody)
		r.Header["X-Lumio-Assertion"] = []string{assertion}
		id, err := verifier.Verify(r)
		if (id == nil) == (err == nil) {
			t.Fatalf("got %+v and %v", id, err)
		}
		if err == nil && !good[assertion] {
			t.Fatalf("accepted as %+v: %s", id, assertion)
		}
	})
}
