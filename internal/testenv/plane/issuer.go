package plane

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Issuer signs the tokens of people.
type Issuer struct {
	URL string
	Key ed25519.PrivateKey
}

// NewIssuer serves the key set of a new issuer.
func NewIssuer(tb testing.TB) *Issuer {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","alg":"EdDSA","x":%q}]}`,
		base64.RawURLEncoding.EncodeToString(public))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, set)
	}))
	tb.Cleanup(server.Close)
	return &Issuer{server.URL + "/jwks.json", private}
}

// Token signs claims, beside those that every token has.
func (i *Issuer) Token(claims map[string]any) string {
	whole := map[string]any{
		"iss": "https://lumio.example", "aud": "lumio-admin", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
	maps.Copy(whole, claims)
	return i.Sign("JWT", whole)
}

// Sign makes a token of a type.
func (i *Issuer) Sign(kind string, claims map[string]any) string {
	segment := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := segment(map[string]any{"alg": "EdDSA", "typ": kind, "kid": "k1"}) + "." + segment(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.Key, []byte(input)))
}
