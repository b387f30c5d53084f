package assertion

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/upstream"
)

const (
	newSecretText = "the new secret, of 32 characters"
	oldSecretText = "the old secret, of 32 characters"
)

// shared makes an assertion with the secrets. The store is never asked for a key.
func shared(tb testing.TB, config Config, secrets ...string) (*Maker, string) {
	tb.Helper()
	config.Audience = "lumio-api"
	for _, text := range secrets {
		config.Secrets = append(config.Secrets, []byte(text))
	}
	m, err := New(config)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := m.Make(tb.Context(), &Signer{now: time.Now}, &verify.Identity{Label: "Bot"}, "GET", "http://api/x")
	if err != nil {
		tb.Fatal(err)
	}
	return m, token
}

// TestALibraryAgreesOnSecrets verifies with jwx. The id is that of the first secret.
func TestALibraryAgreesOnSecrets(t *testing.T) {
	t.Parallel()
	_, token := shared(t, Config{}, newSecretText, oldSecretText)
	if _, err := jws.Verify([]byte(token), jws.WithKey(jwa.HS256(), []byte(newSecretText))); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{"the second secret": oldSecretText, "the id": SecretID([]byte(newSecretText))} {
		if _, err := jws.Verify([]byte(token), jws.WithKey(jwa.HS256(), []byte(text))); err == nil {
			t.Errorf("%s signs", name)
		}
	}
	message, err := jws.Parse([]byte(token))
	if err != nil {
		t.Fatal(err)
	}
	header := message.Signatures()[0].ProtectedHeaders()
	algorithm, _ := header.Algorithm()
	kid, _ := header.KeyID()
	if typ, _ := header.Type(); typ != Type || algorithm != jwa.HS256() || kid != SecretID([]byte(newSecretText)) {
		t.Errorf("typ %q alg %v kid %q", typ, algorithm, kid)
	}
}

// TestUpstreamsTakeWhatTheirSecretHasSigned, the old one too while it is replaced, and
// nothing else.
func TestUpstreamsTakeWhatTheirSecretHasSigned(t *testing.T) {
	t.Parallel()
	_, token := shared(t, Config{}, newSecretText)
	_, older := shared(t, Config{}, oldSecretText, newSecretText)
	_, unbound := shared(t, Config{Unbound: true}, newSecretText)
	for name, test := range map[string]struct {
		verifier *upstream.Verifier
		token    string
		good     bool
	}{
		"its secret":                    {upstream.NewShared("lumio-api", newSecretText), token, true},
		"both, and the new one":         {upstream.NewShared("lumio-api", oldSecretText, newSecretText), token, true},
		"both, and the old one":         {upstream.NewShared("lumio-api", newSecretText, oldSecretText), older, true},
		"another secret":                {upstream.NewShared("lumio-api", oldSecretText), token, false},
		"another audience":              {upstream.NewShared("lumio-web", newSecretText), token, false},
		"one for no request":            {upstream.NewShared("lumio-api", newSecretText), unbound, false},
		"one for no request, and asked": {upstream.NewShared("lumio-api", newSecretText).With(upstream.WithoutBinding()), unbound, true},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://api/x", http.NoBody)
		r.Header.Set("X-Lumio-Assertion", test.token)
		if id, err := test.verifier.Verify(r); (err == nil) != test.good || test.good && id.Label != "Bot" {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

// TestAShortSecretIsRefused, wherever it stands, and not repeated.
func TestAShortSecretIsRefused(t *testing.T) {
	t.Parallel()
	short := []byte("swordfish-of-thirty-one-letters")
	for _, secrets := range [][][]byte{{short}, {{}}, {[]byte(newSecretText), short}} {
		_, err := New(Config{Audience: "a", Secrets: secrets})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("value %d", len(secrets))) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("got %v", err)
		}
	}
}

// TestAMakerPrintsNoSecret nor holds its text where it can be printed.
func TestAMakerPrintsNoSecret(t *testing.T) {
	t.Parallel()
	m, _ := shared(t, Config{}, newSecretText)
	for _, value := range []any{m, *m, m.config, m.secret} {
		for _, format := range []string{"%v", "%+v", "%#v"} {
			text := fmt.Sprintf(format, value)
			if strings.Contains(text, newSecretText) || strings.Contains(text, strings.Trim(fmt.Sprintf(format, []byte(newSecretText)), "[]{}byte")) {
				t.Errorf("%s: %s", format, text)
			}
		}
	}
}

// TestClaimsAreJSON that package json reads as they were, whatever is in them.
func TestClaimsAreJSON(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"", "Twitch Bot", `a"b\c`, "Ünïcode 🤖", "<a>&b", "\x00\n\u2028", "\xff", `","sub":"x`} {
		for _, permissions := range [][]string{nil, {"a:b"}, {"a:b", "c:d"}} {
			c := claims{Issuer: label, Audience: "a", Subject: "s", Label: label, Permissions: permissions, Method: "GET", URL: "http://a/" + label}
			c.stamp(time.Unix(1, 0), MaxTTL)
			var got map[string]any
			if err := json.Unmarshal(c.appendJSON(nil), &got); err != nil {
				t.Fatalf("%q: %v", label, err)
			}
			list := make([]any, 0, len(permissions))
			for _, permission := range permissions {
				list = append(list, permission)
			}
			valid := strings.ToValidUTF8(label, "\ufffd")
			want := map[string]any{
				"iss": valid, "aud": "a", "sub": "s", "label": valid, "permissions": list, "iat": 1.0, "exp": 61.0,
				"jti": string(c.ID[:]), "htm": "GET", "htu": "http://a/" + valid,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", label, diff)
			}
		}
	}
}

// TestIDsAreUnique and as long as 16 bytes are.
func TestIDsAreUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[[22]byte]bool)
	for range 1000 {
		var c claims
		c.stamp(time.Now(), MaxTTL)
		if raw, err := base64.RawURLEncoding.DecodeString(string(c.ID[:])); seen[c.ID] || err != nil || len(raw) != 16 || bytes.Equal(raw, make([]byte, 16)) {
			t.Fatalf("%s: %v", c.ID[:], err)
		}
		seen[c.ID] = true
	}
}

// TestASharedAssertionCostsFewAllocations: its text, and that of the key's id.
func TestASharedAssertionCostsFewAllocations(t *testing.T) {
	m, _ := shared(t, Config{}, newSecretText)
	signer, id := &Signer{now: time.Now}, &verify.Identity{Label: "Bot", Permissions: []string{"bots:read"}}
	least := 100.0
	for range 20 { // under the race detector a pool drops some of what it gets
		least = min(least, testing.AllocsPerRun(1, func() {
			if _, err := m.Make(context.Background(), signer, id, "GET", "http://api/x"); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least > 3 {
		t.Errorf("%v allocations", least)
	}
}
