package jwtauth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
)

// issuer publishes keys and signs with them.
type issuer struct {
	mu     sync.Mutex
	keys   map[string]ed25519.PrivateKey
	status int
	asked  atomic.Int32
	clock  atomic.Int64 // seconds after now
}

func newIssuer(t *testing.T, ids ...string) (*issuer, *jwtauth.Verifier) {
	t.Helper()
	i := &issuer{keys: map[string]ed25519.PrivateKey{}, status: http.StatusOK}
	for _, id := range ids {
		i.add(id)
	}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	c := config(nil, "EdDSA")
	c.JWKS = server.URL + "/keys.json"
	c.Now = func() time.Time { return now.Add(time.Duration(i.clock.Load()) * time.Second) }
	return i, newVerifier(t, c)
}

func (i *issuer) add(id string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[id] = key
}

func (i *issuer) set(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status = status
}

func (i *issuer) jwks() []byte {
	set := []map[string]any{{"kty": "RSA", "kid": "strange", "use": "enc", "n": "AQAB", "e": "AQAB"}}
	for id, key := range i.keys {
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		set = append(set, map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x})
	}
	b, err := json.Marshal(map[string]any{"keys": set})
	if err != nil {
		panic(err)
	}
	return b
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.asked.Add(1)
	i.mu.Lock()
	defer i.mu.Unlock()
	w.WriteHeader(i.status)
	_, _ = w.Write(i.jwks())
}

func (i *issuer) token(id string) string {
	i.mu.Lock()
	key := i.keys[id]
	i.mu.Unlock()
	if key == nil {
		_, key, _ = ed25519.GenerateKey(rand.Reader)
	}
	claims := with(map[string]any{"exp": now.Add(24 * time.Hour).Unix()})
	return sign(map[string]any{"alg": "EdDSA", "kid": id}, claims, func(input []byte) []byte { return ed25519.Sign(key, input) })
}

func TestKeysAreFetchedOnceAndAgainWhenTheyRotate(t *testing.T) {
	t.Parallel()
	i, v := newIssuer(t, "a")
	accepted := func(id string) {
		t.Helper()
		if _, err := v.Verify(t.Context(), i.token(id)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	asked := func(want int32) {
		t.Helper()
		if n := i.asked.Load(); n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { accepted("a") })
	}
	wg.Wait()
	asked(1)
	i.clock.Store(11) // beyond the floor
	i.add("b")
	accepted("b")
	accepted("a")
	asked(2)
	// Made-up key ids do not make us ask again and again.
	for range 50 {
		if _, err := v.Verify(t.Context(), i.token("made up")); !errors.Is(err, jwtauth.ErrInvalid) {
			t.Errorf("a key that nobody has: %v", err)
		}
	}
	asked(2)
	// What the issuer has taken away is not accepted for long.
	b := i.token("b")
	i.mu.Lock()
	delete(i.keys, "b")
	i.mu.Unlock()
	i.clock.Store(400)
	if _, err := v.Verify(t.Context(), b); !errors.Is(err, jwtauth.ErrInvalid) {
		t.Errorf("a key that was taken away: %v", err)
	}
	asked(3)
}

// TestAnIssuerThatIsDown is no reason to call a token wrong, nor to accept a key
// for ever.
func TestAnIssuerThatIsDown(t *testing.T) {
	t.Parallel()
	i, v := newIssuer(t, "a")
	i.set(http.StatusBadGateway)
	unknown := func(token string) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); err == nil || errors.Is(err, jwtauth.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
	unknown(i.token("a"))
	i.clock.Store(1)
	unknown(i.token("a")) // within the floor
	i.set(http.StatusOK)
	i.clock.Store(11)
	if _, err := v.Verify(t.Context(), i.token("a")); err != nil {
		t.Error(err)
	}
	i.set(http.StatusBadGateway)
	i.clock.Store(1000) // stale, and the best there is
	if _, err := v.Verify(t.Context(), i.token("a")); err != nil {
		t.Error(err)
	}
	i.add("b")
	unknown(i.token("b"))
	i.clock.Store(4000)
	unknown(i.token("a"))
}

func TestKeysOfAFile(t *testing.T) {
	t.Parallel()
	i := &issuer{keys: map[string]ed25519.PrivateKey{}}
	i.add("a")
	file := filepath.Join(t.TempDir(), "keys.json")
	c := config(nil, "EdDSA")
	c.JWKS = file
	c.Now = func() time.Time { return now.Add(time.Duration(i.clock.Load()) * time.Second) }
	v := newVerifier(t, c)
	if _, err := v.Verify(t.Context(), i.token("a")); err == nil || errors.Is(err, jwtauth.ErrInvalid) {
		t.Errorf("without the file: %v", err)
	}
	for n, text := range [][]byte{[]byte("{"), i.jwks()} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		i.clock.Add(11)
		_, err := v.Verify(t.Context(), i.token("a"))
		if n == 0 && (err == nil || errors.Is(err, jwtauth.ErrInvalid)) || n == 1 && err != nil {
			t.Errorf("attempt %d: %v", n, err)
		}
	}
}

// TestANestedKeySetIsNone has 64 levels in a set, and then 65.
func TestANestedKeySetIsNone(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token := sign(map[string]any{"alg": "EdDSA", "kid": "one"}, good(), func(input []byte) []byte { return ed25519.Sign(private, input) })
	for n, fine := range map[int]bool{63: true, 64: false} {
		set, err := json.Marshal(map[string]any{
			"keys": []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": base64.RawURLEncoding.EncodeToString(public)}}, "x": levels(n),
		})
		if err != nil {
			t.Fatal(err)
		}
		c := config(nil, "EdDSA")
		c.JWKS = filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(c.JWKS, set, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newVerifier(t, c).Verify(t.Context(), token); (err == nil) != fine {
			t.Errorf("%d levels: %v", n+1, err)
		}
	}
}
