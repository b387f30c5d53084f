package upstream_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

var update = flag.Bool("update", false, "write the vectors")

const vectorsFile = "testdata/vectors.json"

// vectors are for every language: what a verifier is configured with, and what it
// has to make of requests.
type vectors struct {
	Comment  string `json:"comment"`
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
	Now      int64  `json:"now"`
	Leeway   int64  `json:"leeway"`
	Base     string `json:"base"`
	// Either the key set or the secrets are what a verifier is made with.
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	Secrets []string        `json:"secrets,omitempty"`
	Cases   []vector        `json:"cases"`
}

type vector struct {
	Name      string `json:"name"`
	Method    string `json:"method"`
	Path      string `json:"path"` // with query
	Assertion string `json:"assertion"`
	Accepted  bool   `json:"accepted"`
	// Identity is who called, if it is accepted.
	Identity *identity `json:"identity,omitempty"`
}

type identity struct {
	KeyID       string   `json:"key_id"`
	Label       string   `json:"label"`
	Permissions []string `json:"permissions"`
}

const (
	vectorNow  = 1_767_225_600 // 2026-01-01
	vectorBase = "https://api.example.com"
	vectorID   = "0199d3f0-7c1e-7a55-9b1f-2b8f5f0f6d01"
)

type object = map[string]any

// signer is a key, or a secret, that is always the same.
type signer struct {
	private ed25519.PrivateKey
	secret  string
	id      string
}

func signerOf(name string) signer {
	seed := sha256.Sum256([]byte("caddy-system-keys test vectors: " + name))
	s := signer{private: ed25519.NewKeyFromSeed(seed[:])}
	print := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + s.x() + `"}`)) // RFC 7638
	s.id = encode(print[:])
	return s
}

func (s signer) x() string { return encode(s.private.Public().(ed25519.PublicKey)) }

func (s signer) jwk(more object) object {
	key := object{"kty": "OKP", "crv": "Ed25519", "kid": s.id, "use": "sig", "alg": "EdDSA", "x": s.x()}
	return with(key, more)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return encode(b)
}

// with is a copy with members that are changed; a nil removes one.
func with(o, changes object) object {
	o = maps.Clone(o)
	maps.Copy(o, changes)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
	return o
}

func (s signer) header() object {
	algorithm := "EdDSA"
	if s.secret != "" {
		algorithm = "HS256"
	}
	return object{"alg": algorithm, "kid": s.id, "typ": "lumio-key+jwt"}
}

func (s signer) sign(header, claims any) string {
	return s.signText(encodeJSON(header), encodeJSON(claims))
}

func (s signer) signText(header, payload string) string {
	input := header + "." + payload
	if s.secret != "" {
		return input + "." + encode(macOf(s.secret, input))
	}
	return input + "." + encode(ed25519.Sign(s.private, []byte(input)))
}

func vectorClaims() object {
	return object{
		"iss": "caddy-system-keys", "aud": "lumio-api", "sub": vectorID, "label": "Ünïcode Bot 🤖",
		"permissions": []string{"bots:read", "bots:write"}, "iat": vectorNow - 10, "exp": vectorNow + 50,
		"jti": "QJ4WZ5M6S7CH4M2DRA2IKVTC6M", "htm": "GET", "htu": vectorBase + "/bots/17",
	}
}

// makeVectors makes those of public keys, always the same.
func makeVectors() *vectors {
	one, other, stranger, encryption := signerOf("one"), signerOf("other"), signerOf("stranger"), signerOf("encryption")
	claims := vectorClaims()
	v := newVectors(one, other, stranger)
	set, err := json.Marshal(object{"keys": []object{
		{"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB", "use": "sig"},
		{"kty": "EC", "crv": "P-256", "kid": "ec", "x": other.x(), "y": other.x()},
		encryption.jwk(object{"use": "enc"}),
		one.jwk(nil),
		other.jwk(object{"use": nil, "alg": nil}),
	}})
	if err != nil {
		panic(err)
	}
	v.JWKS = set
	headed := func(changes object) string { return one.sign(with(one.header(), changes), claims) }
	v.refuse("of a key that is for encryption", encryption.sign(encryption.header(), claims))
	v.refuse("with a key of its own", stranger.sign(with(stranger.header(), object{"jwk": stranger.jwk(nil)}), claims))
	v.refuse("with the id of an RSA key", headed(object{"kid": "rsa"}))
	v.refuse("with the id of a key that cannot be read", headed(object{"kid": "ec"}))
	v.refuse("algorithm HS256, with the public key as the secret", hs256(one, claims))
	shared := sharedOf("one")
	v.refuse("of a shared secret", shared.sign(shared.header(), claims))
	v.refuse("of a shared secret, under the id of a public key", shared.sign(with(shared.header(), object{"kid": one.id}), claims))
	v.refuse("of a shared secret, and the header of a public key", shared.sign(one.header(), claims))
	return v
}

// newVectors are those of any algorithm. The first two signers are known to the verifier,
// and the stranger is not.
func newVectors(one, other, stranger signer) *vectors {
	claims := vectorClaims()
	good := one.sign(one.header(), claims)
	parts := strings.Split(good, ".")
	v := &vectors{
		Comment: "Made by go test ./upstream -run Vectors -update. The base is the URL of the service as clients know it; " +
			"a verifier compares htu with the base and the path of the request, without its query.",
		Issuer: "caddy-system-keys", Audience: "lumio-api", Now: vectorNow, Leeway: 5, Base: vectorBase,
	}
	accept, refuse := v.accept, v.refuse
	changed := func(changes object) string { return one.sign(one.header(), with(claims, changes)) }
	headed := func(changes object) string { return one.sign(with(one.header(), changes), claims) }

	accept("a good one", "GET", "/bots/17", good, claims)
	accept("a query is not signed", "GET", "/bots/17?a=b&c=%2F", good, claims)
	accept("of the other key", "GET", "/bots/17", other.sign(other.header(), claims), claims)
	for _, c := range []struct {
		name    string
		changes object
	}{
		{"without permissions", object{"permissions": []string{}}},
		{"that expired within the leeway", object{"iat": vectorNow - 64, "exp": vectorNow - 4}},
		{"from the future, within the leeway", object{"iat": vectorNow + 5, "exp": vectorNow + 65}},
		{"with a claim that nobody knows", object{"more": "x"}},
		{"with an empty label", object{"label": ""}},
	} {
		these := with(claims, c.changes)
		accept(c.name, "GET", "/bots/17", one.sign(one.header(), these), these)
	}
	escaped := with(claims, object{"htm": "DELETE", "htu": vectorBase + "/a%2Fb/%C3%A9//c"})
	accept("an escaped path is compared as it was sent", "DELETE", "/a%2Fb/%C3%A9//c?x", one.sign(one.header(), escaped), escaped)

	refuse("none", "")
	refuse("a text", "assertion")
	refuse("two parts", parts[0]+"."+parts[1])
	refuse("four parts", good+".")
	refuse("five parts, as an encrypted one", good+"."+parts[0]+"."+parts[1])
	refuse("the JSON serialization", `{"payload":"`+parts[1]+`","protected":"`+parts[0]+`","signature":"`+parts[2]+`"}`)
	refuse("a space before", " "+good)
	refuse("a header in clear", `{"alg":"`+one.header()["alg"].(string)+`"}.`+parts[1]+"."+parts[2])
	refuse("padding", parts[0]+"."+parts[1]+"."+parts[2]+"==")
	refuse("another spelling of the signature", parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])-1]+next(parts[2]))
	refuse("base64 with plus and slash", parts[0]+"."+parts[1]+"."+strings.NewReplacer("-", "+", "_", "/").Replace(signatureWithBoth(one, claims)))
	refuse("no signature", parts[0]+"."+parts[1]+".")
	refuse("a signature that is cut", parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])-4])
	refuse("a signature of zeros", parts[0]+"."+parts[1]+"."+encode(make([]byte, base64.RawURLEncoding.DecodedLen(len(parts[2])))))
	refuse("the signature of another assertion", parts[0]+"."+parts[1]+"."+strings.Split(changed(object{"jti": "x"}), ".")[2])
	refuse("other claims under the signature", parts[0]+"."+encodeJSON(with(claims, object{"permissions": []string{"admin:access"}}))+"."+parts[2])
	refuse("another header over the signature", encodeJSON(with(one.header(), object{"x": 1}))+"."+parts[1]+"."+parts[2])
	refuse("of a key that is not published", stranger.sign(stranger.header(), claims))
	refuse("of another key under a published id", stranger.sign(one.header(), claims))
	refuse("of the other published key under this id", other.sign(one.header(), claims))
	refuse("without a key id", headed(object{"kid": nil}))
	refuse("with an empty key id", headed(object{"kid": ""}))
	refuse("with a key id that is a number", headed(object{"kid": 1}))
	refuse("without algorithm", headed(object{"alg": nil}))
	refuse("algorithm none", headed(object{"alg": "none"}))
	refuse("algorithm none, unsigned", encodeJSON(with(one.header(), object{"alg": "none"}))+"."+parts[1]+".")
	refuse("algorithm in another case", headed(object{"alg": strings.ToLower(one.header()["alg"].(string))}))
	refuse("algorithm ES256", headed(object{"alg": "ES256"}))
	refuse("without type", headed(object{"typ": nil}))
	refuse("type JWT", headed(object{"typ": "JWT"}))
	refuse("type of an access token", headed(object{"typ": "at+jwt"}))
	refuse("with something critical", headed(object{"crit": []string{"b64"}, "b64": true}))
	refuse("a header that is a list", one.signText(encodeJSON([]any{one.header()["alg"]}), parts[1]))
	refuse("claims that are a list", one.signText(parts[0], encodeJSON([]string{})))
	refuse("claims that are no JSON", one.signText(parts[0], encode([]byte("{"))))
	refuse("claims with something behind", one.signText(parts[0], encode([]byte(`{}{}`))))
	for _, c := range []struct {
		name    string
		changes object
	}{
		{"of another issuer", object{"iss": "lumio"}},
		{"without issuer", object{"iss": nil}},
		{"for another audience", object{"aud": "lumio-web"}},
		{"without audience", object{"aud": nil}},
		{"for several audiences", object{"aud": []string{"lumio-api", "lumio-web"}}},
		{"without subject", object{"sub": nil}},
		{"with an empty subject", object{"sub": ""}},
		{"with a subject that is a number", object{"sub": 17}},
		{"without id", object{"jti": nil}},
		{"without a list of permissions", object{"permissions": nil}},
		{"with permissions in one text", object{"permissions": "bots:read,bots:write"}},
		{"that has expired", object{"iat": vectorNow - 65, "exp": vectorNow - 5}},
		{"that expired long ago", object{"iat": vectorNow - 86_460, "exp": vectorNow - 86_400}},
		{"from the future", object{"iat": vectorNow + 6, "exp": vectorNow + 60}},
		{"that holds for too long", object{"iat": vectorNow - 10, "exp": vectorNow + 51}},
		{"that holds for ever", object{"exp": 99_999_999_999}},
		{"that expires before it begins", object{"iat": vectorNow, "exp": vectorNow - 1}},
		{"without expiry", object{"exp": nil}},
		{"with an expiry in words", object{"exp": "never"}},
		{"with an expiry that is too large", object{"exp": 1e300}},
		{"without time", object{"iat": nil}},
		{"for another method", object{"htm": "POST"}},
		{"for the method in another case", object{"htm": "get"}},
		{"for another path", object{"htu": vectorBase + "/bots/18"}},
		{"for a path with a slash more", object{"htu": vectorBase + "/bots/17/"}},
		{"for the path in another spelling", object{"htu": vectorBase + "/bots/1%37"}},
		{"for another host", object{"htu": "https://api.example.org/bots/17"}},
		{"for another scheme", object{"htu": "http://api.example.com/bots/17"}},
		{"for another port", object{"htu": "https://api.example.com:8443/bots/17"}},
		{"for a URL with a query", object{"htu": vectorBase + "/bots/17?a=b"}},
		{"for no request", object{"htm": nil, "htu": nil}},
		{"for no method", object{"htm": nil}},
		{"for no URL", object{"htu": nil}},
	} {
		refuse(c.name, changed(c.changes))
	}
	return v
}

func (v *vectors) accept(name, method, path, assertion string, claims object) {
	permissions, _ := claims["permissions"].([]string)
	v.Cases = append(v.Cases, vector{
		Name: name, Method: method, Path: path, Assertion: assertion, Accepted: true,
		Identity: &identity{claims["sub"].(string), claims["label"].(string), permissions},
	})
}

func (v *vectors) refuse(name, assertion string) {
	v.Cases = append(v.Cases, vector{Name: name, Method: "GET", Path: "/bots/17", Assertion: assertion})
}

// next is the last character of a signature with one of the bits set that stand for
// nothing: a lax decoder reads the same bytes.
func next(signature string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, signature[len(signature)-1])
	return alphabet[i+1 : i+2]
}

// signatureWithBoth signs claims; the signature of these has characters that the
// alphabets of base64 differ in, or the vector would be a good one.
func signatureWithBoth(s signer, claims object) string {
	signature := strings.Split(s.sign(s.header(), claims), ".")[2]
	if !strings.ContainsAny(signature, "-_") {
		panic("the signature has neither - nor _")
	}
	return signature
}

func hs256(s signer, claims object) string {
	input := encodeJSON(with(s.header(), object{"alg": "HS256"})) + "." + encodeJSON(claims)
	return input + "." + encode(macOf(string(s.private.Public().(ed25519.PublicKey)), input))
}

func macOf(secret, text string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// serving is a client to which the same set is served whatever it asks for.
func serving(set []byte) *http.Client {
	return &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(set))}, nil
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// verifierOf is configured as the vectors say.
func verifierOf(v *vectors, options ...upstream.Option) *upstream.Verifier {
	options = append([]upstream.Option{
		upstream.WithIssuer(v.Issuer),
		upstream.WithLeeway(time.Duration(v.Leeway) * time.Second),
		upstream.WithClock(func() time.Time { return time.Unix(v.Now, 0) }),
		upstream.WithBaseURL(v.Base),
		upstream.WithLogger(slog.New(slog.DiscardHandler)),
	}, options...)
	if v.Secrets != nil {
		return upstream.NewShared(v.Audience, v.Secrets...).With(options...)
	}
	return upstream.New("https://keys.example.com/", v.Audience, append([]upstream.Option{upstream.WithHTTPClient(serving(v.JWKS))}, options...)...)
}

func requestOf(c vector) *http.Request {
	r := httptest.NewRequest(c.Method, c.Path, http.NoBody)
	if c.Assertion != "" {
		r.Header.Set("X-Lumio-Assertion", c.Assertion)
	}
	return r
}

// TestVectors verifies each, and that the files are what the code here makes.
func TestVectors(t *testing.T) {
	t.Parallel()
	for file, v := range map[string]*vectors{vectorsFile: makeVectors(), sharedVectorsFile: makeSharedVectors()} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			verifyVectors(t, file, v)
		})
	}
}

func verifyVectors(t *testing.T, name string, v *vectors) {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "\t")
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var want vectors
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	byName := func(all []vector) map[string]vector {
		m := make(map[string]vector)
		for _, c := range all {
			m[c.Name] = c
		}
		return m
	}
	if diff := cmp.Diff(byName(want.Cases), byName(v.Cases)); diff != "" {
		t.Errorf("the file is another one (-file +made):\n%s", diff)
	}
	if n := len(byName(want.Cases)); n != len(want.Cases) || n < 70 {
		t.Errorf("%d cases of %d names", len(want.Cases), n)
	}
	for _, c := range want.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			id, err := verifierOf(&want).Verify(requestOf(c))
			switch {
			case c.Accepted && err != nil:
				t.Fatalf("refused: %v", err)
			case !c.Accepted && err == nil:
				t.Fatalf("accepted: %+v", id)
			case !c.Accepted:
				if !errors.Is(err, upstream.ErrInvalid) && (c.Assertion != "" || !errors.Is(err, upstream.ErrMissing)) {
					t.Errorf("got %v, which is no refusal", err)
				}
				return
			}
			if diff := cmp.Diff(c.Identity, &identity{id.KeyID, id.Label, id.Permissions}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
