package upstream

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// canonical is a payload as the proxy writes it.
const canonical = `{"iss":"i","aud":"a","sub":"s","label":"Twitch Bot","permissions":["bots:read","bots:write"],` +
	`"iat":1767225590,"exp":1767225650,"jti":"j","htm":"GET","htu":"https://api.example.com/bots/17"}`

// TestClaimsAreReadWithoutJSON where the proxy has written them.
func TestClaimsAreReadWithoutJSON(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]bool{
		canonical: true,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":1,"exp":2,"jti":"j"}`: true,
		canonical + " ": false, " " + canonical: false, canonical[:len(canonical)-1]: false, "": false, "{}": false,
		`{"iss":"i","aud":"a","sub":"s","label":"ü","permissions":[],"iat":1,"exp":2,"jti":"j"}`:                     false,
		`{"iss":"i","aud":"a","sub":"s","label":"\n","permissions":[],"iat":1,"exp":2,"jti":"j"}`:                    false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":null,"iat":1,"exp":2,"jti":"j"}`:                    false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":["a",],"iat":1,"exp":2,"jti":"j"}`:                  false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":["a" "b"],"iat":1,"exp":2,"jti":"j"}`:               false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":01,"exp":2,"jti":"j"}`:                     false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":1.5,"exp":2,"jti":"j"}`:                    false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":1,"exp":18446744073709551617,"jti":"j"}`:   false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":1,"exp":2,"jti":"j","htm":"GET"}`:          false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":1,"exp":2,"jti":"j","sub":"other"}`:        false,
		`{"iss":"i","aud":"a","sub":"s","label":"","permissions":[],"iat":1,"exp":2,"jti":"j","htm":"G","htu":"u"}}`: false,
	} {
		if got := readClaims(payload); (got != nil) != want {
			t.Errorf("%s: %+v", payload, got)
		}
	}
}

// FuzzReadClaims has package json read whatever is read without it.
func FuzzReadClaims(f *testing.F) {
	f.Add(canonical)
	for _, field := range []string{`"\u0000"`, `"a\"b"`, `-1`, `1e3`, `null`, `[]`, `"é"`, `0`, `12345678901234567890`} {
		f.Add(fmt.Sprintf(`{"iss":%s,"aud":"a","sub":"s","label":"l","permissions":[%[1]s],"iat":%[1]s,"exp":2,"jti":"j"}`, field))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		got := readClaims(payload)
		if got == nil {
			return
		}
		var want claims
		if err := json.Unmarshal([]byte(payload), &want); err != nil {
			t.Fatalf("package json refuses it: %v", err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("package json reads it otherwise (-json +here):\n%s", diff)
		}
	})
}
