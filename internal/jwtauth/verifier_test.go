package jwtauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// The tokens are made by hand, so that every wrong one can be.

func segment(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func sign(header, claims map[string]any, signer func(input []byte) []byte) string {
	input := segment(header) + "." + segment(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(signer([]byte(input)))
}

func withRSA(key *rsa.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte {
		sum := sha256.Sum256(input)
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return signature
	}
}

func withSecret(secret []byte) func([]byte) []byte {
	return func(input []byte) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write(input)
		return h.Sum(nil)
	}
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func good() map[string]any {
	return map[string]any{
		"iss": "https://lumio.example", "aud": []string{"other", "admin"}, "sub": "u1", "name": "Ada",
		"exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "permissions": []string{"b:read", "a:read", "a:read"}, "is_system": true,
	}
}

// with returns the claims with some of them changed; nil takes one away.
func with(changes map[string]any) map[string]any {
	claims := good()
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func config(key []byte, algorithms ...string) jwtauth.Config {
	return jwtauth.Config{
		Key: key, Algorithms: algorithms, Issuer: "https://lumio.example", Audience: "admin",
		Now: func() time.Time { return now },
	}
}

func newVerifier(t *testing.T, c jwtauth.Config) *jwtauth.Verifier {
	t.Helper()
	v, err := jwtauth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTokensOfEveryKindOfKey(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte(strings.Repeat("s", 32))
	for _, c := range []struct {
		algorithm string
		key       []byte
		signer    func([]byte) []byte
	}{
		{"RS256", publicPEM(t, &rsaKey.PublicKey), withRSA(rsaKey)},
		{"EdDSA", publicPEM(t, edPublic), func(input []byte) []byte { return ed25519.Sign(edPrivate, input) }},
		{"ES256", publicPEM(t, &ecKey.PublicKey), func(input []byte) []byte {
			sum := sha256.Sum256(input)
			r, s, err := ecdsa.Sign(rand.Reader, ecKey, sum[:])
			if err != nil {
				panic(err)
			}
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}},
		{"HS256", secret, withSecret(secret)},
	} {
		t.Run(c.algorithm, func(t *testing.T) {
			t.Parallel()
			v := newVerifier(t, config(c.key, c.algorithm))
			claims, err := v.Verify(t.Context(), sign(map[string]any{"alg": c.algorithm, "typ": "JWT", "kid": "any"}, good(), c.signer))
			if err != nil {
				t.Fatal(err)
			}
			if claims.Subject != "u1" || claims.Name != "Ada" || !claims.IsSystem || !slices.Equal(claims.Permissions, []string{"a:read", "b:read"}) {
				t.Errorf("claims = %+v", claims)
			}
			forged := sign(map[string]any{"alg": c.algorithm}, good(), func([]byte) []byte { return make([]byte, 64) })
			if _, err := v.Verify(t.Context(), forged); !errors.Is(err, jwtauth.ErrInvalid) {
				t.Errorf("a signature of zeros: %v", err)
			}
		})
	}
}

// TestTokensThatAreRefused has one thing wrong with each token, and checks that
// the same token without it is taken.
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := publicPEM(t, &key.PublicKey)
	v := newVerifier(t, config(public, "RS256"))
	rs256 := map[string]any{"alg": "RS256"}
	signed := func(changes map[string]any) string { return sign(rs256, with(changes), withRSA(key)) }
	header := func(changes map[string]any) string {
		whole := maps.Clone(rs256)
		maps.Copy(whole, changes)
		return sign(whole, good(), withRSA(key))
	}
	none := func([]byte) []byte { return nil }
	fine := signed(nil)
	parts := strings.Split(fine, ".")
	for name, token := range map[string]string{
		"none":                            sign(map[string]any{"alg": "none"}, good(), none),
		"None":                            sign(map[string]any{"alg": "None"}, good(), none),
		"no algorithm":                    sign(map[string]any{}, good(), withRSA(key)),
		"the public key as a secret":      sign(map[string]any{"alg": "HS256"}, good(), withSecret(public)),
		"another algorithm":               header(map[string]any{"alg": "RS512"}),
		"another key":                     sign(rs256, good(), withRSA(other)),
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"two parts":                       parts[0] + "." + parts[1],
		"four parts":                      fine + ".x",
		"other claims":                    parts[0] + "." + segment(with(map[string]any{"sub": "root"})) + "." + parts[2],
		"an assertion of ours":            header(map[string]any{"typ": "lumio-key+jwt"}),
		"an assertion, written out":       header(map[string]any{"typ": "application/Lumio-Key+JWT"}),
		"something critical":              header(map[string]any{"crit": []string{"x"}, "x": 1}),
		"an embedded key":                 sign(map[string]any{"alg": "RS256", "jwk": map[string]any{"kty": "RSA"}}, good(), withRSA(other)),
		"no expiry":                       signed(map[string]any{"exp": nil}),
		"expired":                         signed(map[string]any{"exp": now.Add(-10 * time.Second).Unix()}),
		"not yet":                         signed(map[string]any{"nbf": now.Add(time.Minute).Unix()}),
		"an expiry that is text":          signed(map[string]any{"exp": "never"}),
		"an expiry as a text of digits":   signed(map[string]any{"exp": strconv.FormatInt(now.Add(time.Minute).Unix(), 10)}),
		"an expiry in a list":             signed(map[string]any{"exp": []any{now.Add(time.Minute).Unix()}}),
		"an expiry that is true":          signed(map[string]any{"exp": true}),
		"an expiry beyond the calendar":   signed(map[string]any{"exp": 253402300800}),
		"an expiry beyond all bounds":     signed(map[string]any{"exp": 1e300}),
		"an expiry that no number holds":  signed(map[string]any{"exp": json.Number("1e400")}),
		"an expiry before the calendar":   signed(map[string]any{"exp": -1}),
		"a beginning as text":             signed(map[string]any{"nbf": strconv.FormatInt(now.Unix(), 10)}),
		"a beginning that is null":        signed(map[string]any{"nbf": json.RawMessage("null")}),
		"a beginning before the calendar": signed(map[string]any{"nbf": -1e300}),
		"a time of issue as text":         signed(map[string]any{"iat": strconv.FormatInt(now.Unix(), 10)}),
		"a time of issue to come":         signed(map[string]any{"iat": now.Add(time.Hour).Unix()}),
		"claims of 65 levels":             signed(map[string]any{"x": levels(64)}),
		"a header of 65 levels":           header(map[string]any{"x": levels(64)}),
		"no issuer":                       signed(map[string]any{"iss": nil}),
		"another issuer":                  signed(map[string]any{"iss": "https://lumio.example/"}),
		"no audience":                     signed(map[string]any{"aud": nil}),
		"another audience":                signed(map[string]any{"aud": "admins"}),
		"no subject":                      signed(map[string]any{"sub": nil}),
		"an empty subject":                signed(map[string]any{"sub": ""}),
		"a subject that is too long":      signed(map[string]any{"sub": strings.Repeat("x", 256)}),
		"a token that is too long":        signed(map[string]any{"x": strings.Repeat("x", 16<<10)}),
		"nothing":                         "",
		"dots":                            "..",
		"something that is not base64":    "!.!.!",
		"JSON serialization":              `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		"a subject with NUL":              signed(map[string]any{"sub": "u\x00"}),
		"a subject with a line feed":      signed(map[string]any{"sub": "u\n1"}),
		"a subject that was no text":      signed(map[string]any{"sub": "\ufffd"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if claims, err := v.Verify(t.Context(), token); !errors.Is(err, jwtauth.ErrInvalid) {
				t.Errorf("got %+v, %v", claims, err)
			}
		})
	}
	for name, token := range map[string]string{
		"nothing wrong":              fine,
		"an expiry with a fraction":  signed(map[string]any{"exp": float64(now.Add(time.Minute).Unix()) + 0.5}),
		"an expiry in powers of ten": signed(map[string]any{"exp": json.RawMessage("99999e5")}),
		"the last second there is":   signed(map[string]any{"exp": 253402300799}),
		"a beginning":                signed(map[string]any{"nbf": now.Unix()}),
		"claims of 64 levels":        signed(map[string]any{"x": levels(63)}),
		"a header of 64 levels":      header(map[string]any{"x": levels(63)}),
	} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// levels is JSON of so many lists in each other.
func levels(n int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
}

func TestWhatClaimsSay(t *testing.T) {
	t.Parallel()
	secret := []byte(strings.Repeat("s", 32))
	c := config(secret, "HS256")
	c.PermissionsClaim, c.SystemClaim = "scope", "admin"
	v := newVerifier(t, c)
	for name, test := range map[string]struct {
		claims      map[string]any
		permissions []string
		system      bool
	}{
		"a string":              {map[string]any{"scope": "b:read  a:read"}, []string{"a:read", "b:read"}, false},
		"a list with oddities":  {map[string]any{"scope": []any{"a:read", 1, nil, "a:read"}}, []string{"a:read"}, false},
		"a number":              {map[string]any{"scope": 1}, nil, false},
		"the default name":      {map[string]any{"permissions": "a:read", "is_system": true}, nil, false},
		"true":                  {map[string]any{"admin": true}, nil, true},
		"the text true":         {map[string]any{"admin": "true"}, nil, false},
		"one":                   {map[string]any{"admin": 1}, nil, false},
		"a list that says true": {map[string]any{"admin": []any{true}}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims, err := v.Verify(t.Context(), sign(map[string]any{"alg": "HS256"}, with(test.claims), withSecret(secret)))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(claims.Permissions, test.permissions) || claims.IsSystem != test.system {
				t.Errorf("claims = %+v", claims)
			}
		})
	}
}

// TestNamesAreAsLabels: the name goes to the audit log and to the page.
func TestNamesAreAsLabels(t *testing.T) {
	t.Parallel()
	secret := []byte(strings.Repeat("s", 32))
	v := newVerifier(t, config(secret, "HS256"))
	for name, want := range map[string]string{
		"Ada": "Ada", " Ada\x1b[2K\u202e\n": "Ada[2K", "\u2800": "", strings.Repeat("é", 5000): strings.Repeat("é", 100),
	} {
		token := sign(map[string]any{"alg": "HS256"}, with(map[string]any{"name": name}), withSecret(secret))
		if claims, err := v.Verify(t.Context(), token); err != nil || claims.Name != want {
			t.Errorf("%.20q became %+.50v, %v", name, claims, err)
		}
	}
}

// TestClaimsOfKeycloak: its roles are nested. A claim of the very name comes first, whatever it
// is.
func TestClaimsOfKeycloak(t *testing.T) {
	t.Parallel()
	secret := []byte(strings.Repeat("s", 32))
	c := config(secret, "HS256")
	c.PermissionsClaim, c.SystemClaim = "realm_access.lumio.roles", "realm_access.admin"
	v := newVerifier(t, c)
	roles := map[string]any{"lumio": map[string]any{"roles": []string{"b:read", "a:read"}}, "admin": true}
	for name, test := range map[string]struct {
		claims      map[string]any
		permissions []string
		system      bool
	}{
		"nested":              {map[string]any{"realm_access": roles}, []string{"a:read", "b:read"}, true},
		"the very name":       {map[string]any{"realm_access": roles, "realm_access.lumio.roles": "c:read", "realm_access.admin": false}, []string{"c:read"}, false},
		"the very name, null": {map[string]any{"realm_access": roles, "realm_access.lumio.roles": json.RawMessage("null")}, nil, true},
		"half of the path":    {map[string]any{"realm_access": map[string]any{"lumio": "a:read", "admin": map[string]any{"": true}}}, nil, false},
		"a list on the way":   {map[string]any{"realm_access": []any{roles}}, nil, false},
		"the last name alone": {map[string]any{"roles": "a:read", "admin": true}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims, err := v.Verify(t.Context(), sign(map[string]any{"alg": "HS256"}, with(test.claims), withSecret(secret)))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(claims.Permissions, test.permissions) || claims.IsSystem != test.system {
				t.Errorf("claims = %+v", claims)
			}
		})
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := publicPEM(t, &key.PublicKey)
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	set := func(change func(*jwtauth.Config)) jwtauth.Config {
		c := config(public, "RS256")
		change(&c)
		return c
	}
	for want, c := range map[string]jwtauth.Config{
		"issuer is required":      set(func(c *jwtauth.Config) { c.Issuer = "" }),
		"audience is required":    set(func(c *jwtauth.Config) { c.Audience = "" }),
		"algorithms is required":  set(func(c *jwtauth.Config) { c.Algorithms = nil }),
		"either jwks or key":      set(func(c *jwtauth.Config) { c.JWKS = "https://x/y" }),
		"there is no algorithm":   set(func(c *jwtauth.Config) { c.Algorithms = []string{"none"} }),
		"keys of a jwks are publ": set(func(c *jwtauth.Config) { c.Key, c.JWKS, c.Algorithms = nil, "https://x/y", []string{"HS256"} }),
		"never both":              set(func(c *jwtauth.Config) { c.Algorithms = []string{"RS256", "HS256"} }),
		"is not a URL":            set(func(c *jwtauth.Config) { c.Key, c.JWKS = nil, "https://" }),
		"must never serve as one": config(public, "HS256"),
		"at least 64 bytes":       config([]byte(strings.Repeat("s", 63)), "HS256", "HS512"),
		"public key in PEM form":  config([]byte("secret"), "RS256"),
		"is a private one":        config(private, "RS256"),
	} {
		if _, err := jwtauth.New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ssss") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
