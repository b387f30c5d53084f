package jwtauth_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
)

// fuzzed has a verifier and signs for it.
type fuzzed struct {
	verifier *jwtauth.Verifier
	private  ed25519.PrivateKey
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // the same in every process that fuzzes
	v, err := jwtauth.New(config(publicPEM(f, private.Public()), "EdDSA"))
	if err != nil {
		f.Fatal(err)
	}
	return &fuzzed{v, private}
}

func (z *fuzzed) sign(header, claims string) string {
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(z.private, []byte(input)))
}

const fuzzedHeader = `{"alg":"EdDSA","typ":"JWT"}`

func fuzzedClaims(tb testing.TB, changes map[string]any) string {
	tb.Helper()
	b, err := json.Marshal(with(changes))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// FuzzToken holds that no text is accepted but one with a signature of the key,
// and that every refusal says the same.
func FuzzToken(f *testing.F) {
	z := newFuzzed(f)
	fine := z.sign(fuzzedHeader, fuzzedClaims(f, nil))
	parts := strings.Split(fine, ".")
	for _, seed := range []string{
		fine, parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1], fine + ".", fine + ".x", fine + "=", "..", "",
		parts[0] + ".." + parts[2], "." + parts[1] + "." + parts[2], fine + "\n", strings.ToUpper(fine),
		`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := z.verifier.Verify(t.Context(), token)
		if err != nil {
			if claims != nil || !errors.Is(err, jwtauth.ErrInvalid) {
				t.Errorf("%q gave %+v, %v", token, claims, err)
			}
			return
		}
		signed, signature, _ := cutLast(token)
		raw, err := base64.RawURLEncoding.Strict().DecodeString(signature)
		if err != nil || !ed25519.Verify(z.private.Public().(ed25519.PublicKey), []byte(signed), raw) {
			t.Errorf("%q is accepted, and not signed", token)
		}
	})
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// FuzzClaims signs whatever header and claims there are, and holds the verdict
// against the same rules read by another parser: what is accepted must say so in
// every reading, and gives no more than it says.
func FuzzClaims(f *testing.F) {
	z := newFuzzed(f)
	for _, header := range []string{
		fuzzedHeader, `{"alg":"EdDSA"}`, `{"alg":"none"}`, `{"alg":"HS256"}`, `{"alg":"EdDSA","typ":"lumio-key+jwt"}`,
		`{"alg":"EdDSA","typ":"application/Lumio-Key+JWT"}`, `{"alg":"EdDSA","crit":["b64"],"b64":false}`, `{"alg":"EdDSA","crit":[]}`,
		`{"alg":"none","alg":"EdDSA"}`, `{"alg":"EdDSA","typ":"lumio-key+jwt","typ":"JWT"}`, `{"alg":"EdDSA","typ":"JWT","typ":"lumio-key+jwt"}`,
		`{"ALG":"EdDSA"}`, `{"alg":"EdDSA","Typ":"lumio-key+jwt"}`, `{"alg":"EdDSA","typ":["lumio-key+jwt"]}`, `{"alg":"EdDSA","b64":false}`,
		`{"alg":"EdDSA"}{"typ":"lumio-key+jwt"}`, `{"alg":"EdDSA"}x`, ` {"alg":"EdDSA"} `, `[{"alg":"EdDSA"}]`,
	} {
		f.Add(header, fuzzedClaims(f, nil))
	}
	for _, changes := range []map[string]any{
		{"exp": nil},
		{"exp": now.Add(-time.Minute).Unix()},
		{"exp": "never"},
		{"exp": "99999999999"},
		{"nbf": "1"},
		{"iat": []any{1}},
		{"exp": 1e300},
		{"exp": -1},
		{"nbf": now.Add(time.Hour).Unix()},
		{"iss": nil},
		{"iss": []string{"https://lumio.example"}},
		{"aud": "admin"},
		{"aud": "other"},
		{"aud": []any{1, "admin"}},
		{"aud": nil},
		{"sub": ""},
		{"sub": 1},
		{"sub": strings.Repeat("x", 256)},
		{"is_system": "true"},
		{"is_system": 1},
		{"is_system": []any{true}},
		{"permissions": "a:b c:d"},
		{"permissions": []any{1, "a:b", nil}},
		{"permissions": map[string]any{"a": "b"}},
	} {
		f.Add(fuzzedHeader, fuzzedClaims(f, changes))
	}
	for _, claims := range []string{
		`{"iss":"https://lumio.example","aud":"admin","sub":"u","exp":99999999999,"is_system":true,"is_system":false}`,
		`{"iss":"https://lumio.example","aud":"admin","sub":"u","exp":99999999999,"is_system":false,"is_system":true}`,
		`{"iss":"https://lumio.example","aud":"admin","sub":"u","exp":99999999999,"exp":1}`,
		`{"iss":"https://lumio.example","aud":"admin","sub":"u","exp":99999999999,"Is_System":true}`,
		`{"iss":"evil","iss":"https://lumio.example","aud":"admin","sub":"u","exp":99999999999}`,
		`{"iss":"https://lumio.example","aud":"admin","sub":"u","exp":99999999999}{"is_system":true}`, `[]`, `null`, `"x"`, ``,
	} {
		f.Add(fuzzedHeader, claims)
	}
	f.Fuzz(func(t *testing.T, header, text string) {
		claims, err := z.verifier.Verify(t.Context(), z.sign(header, text))
		if err != nil {
			if !errors.Is(err, jwtauth.ErrInvalid) {
				t.Errorf("%s %s gave %v", header, text, err)
			}
			return
		}
		acceptable(t, header, text, claims)
	})
}

// acceptable reads header and claims with encoding/json, of whose readings of a
// member that is there twice the last counts.
func acceptable(t *testing.T, header, text string, claims *jwtauth.Claims) {
	t.Helper()
	var head, body map[string]any
	if json.Unmarshal([]byte(header), &head) != nil || json.Unmarshal([]byte(text), &body) != nil {
		t.Fatalf("accepted, and not JSON: %s %s", header, text)
	}
	_, critical := head["crit"]
	kind, _ := head["typ"].(string)
	if head["alg"] != "EdDSA" || critical || strings.HasSuffix(strings.ToLower(kind), "lumio-key+jwt") {
		t.Errorf("accepted with the header %s", header)
	}
	var audience []any
	switch aud := body["aud"].(type) {
	case string:
		audience = []any{aud}
	case []any:
		audience = aud
	}
	if body["iss"] != "https://lumio.example" || !slices.Contains(audience, any("admin")) {
		t.Errorf("accepted of another issuer or audience: %s", text)
	}
	if body["sub"] != claims.Subject || claims.Subject == "" || len(claims.Subject) > 255 {
		t.Errorf("accepted with the subject %q: %s", claims.Subject, text)
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		if value, ok := body[name]; ok {
			if seconds, number := value.(float64); !number || seconds < 0 || seconds > 253402300799 {
				t.Errorf("accepted with a time that is %v: %s", value, text)
			}
		}
	}
	if expires, ok := body["exp"].(float64); ok && expires < float64(now.Add(-6*time.Second).Unix()) || body["exp"] == nil {
		t.Errorf("accepted after its time: %s", text)
	}
	if claims.IsSystem && body["is_system"] != true {
		t.Errorf("a system admin by %s", text)
	}
	for _, p := range claims.Permissions {
		listed, _ := body["permissions"].([]any)
		words, _ := body["permissions"].(string)
		if !slices.Contains(listed, any(p)) && !slices.Contains(strings.Fields(words), p) {
			t.Errorf("the permission %q by %s", p, text)
		}
	}
}
