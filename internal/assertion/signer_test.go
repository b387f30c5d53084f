package assertion

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// memory keeps signing keys as a store does. Its clock is that of the test.
type memory struct {
	mu      sync.Mutex
	keys    map[string]store.SigningKey
	down    error         // of every call, while it is set
	slow    time.Duration // how long a call takes
	asked   int           // how often the keys were read
	written int
}

func newMemory() *memory { return &memory{keys: make(map[string]store.SigningKey)} }

func (m *memory) PublishSigningKey(ctx context.Context, key store.SigningKey, life time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return m.down
	}
	m.written++
	key.ExpiresAt = time.Now().Add(life)
	m.keys[key.ID] = key
	return ctx.Err()
}

func (m *memory) SigningKeys(ctx context.Context) ([]store.SigningKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.down != nil {
		return nil, m.down
	}
	live := make([]store.SigningKey, 0, len(m.keys))
	for _, key := range m.keys {
		if key.ExpiresAt.After(time.Now()) {
			live = append(live, key)
		}
	}
	slices.SortFunc(live, func(a, b store.SigningKey) int { return strings.Compare(a.ID, b.ID) })
	if m.slow > 0 {
		m.mu.Unlock()
		time.Sleep(m.slow)
		m.mu.Lock()
	}
	return live, ctx.Err()
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

func (m *memory) reads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// live reports whether a key is readable now.
func (m *memory) live(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, ok := m.keys[id]
	return ok && key.ExpiresAt.After(time.Now())
}

var errDown = errors.New("the store is down")

func startSigner(t *testing.T, keys store.SigningKeys) *Signer {
	t.Helper()
	s := Start(keys, time.Now, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// sign returns an assertion, and the id of its key.
func sign(t *testing.T, s *Signer) (token, kid string) {
	t.Helper()
	token, err := s.sign(t.Context(), &claims{Audience: "a"}, MaxTTL)
	if err != nil {
		t.Fatal(err)
	}
	return token, kidOf(t, token)
}

func kidOf(t *testing.T, token string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ Kid string }
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header.Kid
}

// TestALibraryAgrees verifies with jwx what is signed here, by the set that is
// rendered here.
func TestALibraryAgrees(t *testing.T) {
	t.Parallel()
	k, other := newKey(), newKey()
	body := keySet([]store.SigningKey{other.public, k.public})
	set, err := jwk.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(set); err != nil || !bytes.Equal(again, body) {
		t.Errorf("it renders the set as %s, %v, and not as %s", again, err, body)
	}
	if none, err := json.Marshal(jwk.NewSet()); err != nil || !bytes.Equal(none, keySet(nil)) {
		t.Errorf("it renders an empty set as %s, %v", none, err)
	}
	for i := range set.Len() {
		half, _ := set.Key(i)
		thumbprint, err := half.Thumbprint(crypto.SHA256)
		if id, _ := half.KeyID(); err != nil || id != base64.RawURLEncoding.EncodeToString(thumbprint) {
			t.Errorf("the thumbprint of %s is %x, %v", id, thumbprint, err)
		}
	}
	payload := []byte(`{"sub":"x"}`)
	got, err := jws.Verify([]byte(compact(k.header, payload, k)), jws.WithKeySet(set))
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%q, %v", got, err)
	}
	message, err := jws.Parse([]byte(compact(k.header, payload, k)))
	if err != nil {
		t.Fatal(err)
	}
	header := message.Signatures()[0].ProtectedHeaders()
	algorithm, _ := header.Algorithm()
	kid, _ := header.KeyID()
	if typ, _ := header.Type(); typ != Type || algorithm != jwa.EdDSA() || kid != k.public.ID {
		t.Errorf("typ %q alg %v kid %q", typ, algorithm, kid)
	}
	if bytes.Contains(body, []byte(base64.RawURLEncoding.EncodeToString(k.private.Seed()))) || bytes.Contains(body, []byte(`"d"`)) {
		t.Error("the set holds the private half")
	}
}

// TestAKeyIsReadableBeforeItsFirstUse by way of any instance, at the latest moment
// that it may have read the keys before.
func TestAKeyIsReadableBeforeItsFirstUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		other := NewPublished(keys, time.Now)
		defer other.Close()
		if _, err := other.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := startSigner(t, keys)
		_, kid := sign(t, s)
		set, err := other.Current(t.Context())
		if err != nil || !strings.Contains(set.body, kid) {
			t.Errorf("another instance serves %v, %v", set, err)
		}
	})
}

// TestNothingIsSignedThatCannotBePublished has the store down from the start, and
// later for longer than a key lives.
func TestNothingIsSignedThatCannotBePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		keys.fail(errDown)
		s := startSigner(t, keys)
		synctest.Wait()
		if token, err := s.sign(t.Context(), &claims{}, MaxTTL); !errors.Is(err, ErrUnpublished) {
			t.Errorf("signed %q, %v", token, err)
		}
		keys.fail(nil)
		time.Sleep(retryInterval + publishLead)
		token, kid := sign(t, s)

		keys.fail(errDown)
		for end := time.Now().Add(2 * keyLife); time.Now().Before(end); time.Sleep(10 * time.Second) {
			last, err := s.sign(t.Context(), &claims{}, MaxTTL)
			if err == nil {
				token = last
			} else if !errors.Is(err, ErrUnpublished) {
				t.Fatal(err)
			}
			// What is signed can be verified until it is over.
			if err == nil && keys.keys[kid].ExpiresAt.Before(time.Now().Add(MaxTTL)) {
				t.Fatalf("an assertion outlives its key: %s", token)
			}
		}
		if _, err := s.sign(t.Context(), &claims{}, MaxTTL); !errors.Is(err, ErrUnpublished) {
			t.Errorf("after the end of its key: %v", err)
		}
		keys.fail(nil)
		time.Sleep(retryInterval + publishLead)
		if _, again := sign(t, s); again != kid || !keys.live(kid) {
			t.Error("it does not sign again")
		}
	})
}

// TestRotation looks at a signer for three days: whatever it signs can be verified
// when it is made and until it is over, and new keys are known for an hour.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		s := startSigner(t, keys)
		began := time.Now()
		var used []string
		published := map[string]time.Time{}
		for time.Since(began) < 3*rotateAfter {
			_, kid := sign(t, s)
			if !slices.Contains(used, kid) {
				used = append(used, kid)
				if known := time.Since(published[kid]); len(used) > 1 && known < successorLead-renewInterval {
					t.Errorf("key %d was known for %v before its first use", len(used), known)
				}
			}
			time.Sleep(30 * time.Second)
			keys.mu.Lock()
			for id := range keys.keys {
				if _, seen := published[id]; !seen {
					published[id] = time.Now()
				}
			}
			keys.mu.Unlock()
			time.Sleep(MaxTTL - 30*time.Second)
			if !keys.live(kid) {
				t.Fatalf("after %v a key is gone before its assertion is", time.Since(began))
			}
		}
		if len(used) < 3 {
			t.Errorf("%d keys in three days", len(used))
		}
		time.Sleep(retiredLife)
		if keys.live(used[0]) {
			t.Error("the first key is published for ever")
		}
		if keys.live(used[len(used)-1]) == false {
			t.Error("the last key is not published")
		}
	})
}

// TestTheEndAndACrash leave a key for as long as its last assertion may be looked at.
func TestTheEndAndACrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		s := Start(keys, time.Now, slog.New(slog.DiscardHandler))
		_, kid := sign(t, s)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.sign(t.Context(), &claims{}, MaxTTL); !errors.Is(err, ErrUnpublished) {
			t.Errorf("after the end: %v", err)
		}
		time.Sleep(MaxTTL)
		if !keys.live(kid) {
			t.Error("the key is gone before the last assertion is")
		}
		time.Sleep(retiredLife)
		if keys.live(kid) {
			t.Error("the key stays")
		}

		crashed := Start(keys, time.Now, slog.New(slog.DiscardHandler))
		_, kid = sign(t, crashed)
		crashed.stop() // and nobody says goodbye
		crashed.done.Wait()
		time.Sleep(MaxTTL)
		if !keys.live(kid) {
			t.Error("after a crash the key is gone before the last assertion is")
		}
		time.Sleep(keyLife)
		if keys.live(kid) {
			t.Error("after a crash the key stays")
		}
	})
}

func TestUnboundAssertionsAreMadeAnewInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startSigner(t, newMemory())
		m, err := New(Config{Audience: "a", Unbound: true, TTL: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		id := &verify.Identity{Label: "x"}
		first, err := m.Make(t.Context(), s, id, "GET", "https://a/")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if again, _ := m.Make(t.Context(), s, id, "POST", "https://b/"); again != first {
			t.Error("it was made anew too early")
		}
		time.Sleep(3 * time.Second)
		if again, _ := m.Make(t.Context(), s, id, "GET", "https://a/"); again == first {
			t.Error("it was not made anew")
		}
		if other, _ := m.Make(t.Context(), s, &verify.Identity{Label: "x"}, "GET", "https://a/"); other == first {
			t.Error("another identity has the same")
		}
	})
}

func TestASignerWaitsNoLongerThanTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startSigner(t, newMemory())
		ctx, cancel := context.WithTimeout(t.Context(), publishLead/2)
		defer cancel()
		if _, err := s.sign(ctx, &claims{}, MaxTTL); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func BenchmarkMake(b *testing.B) {
	k := newKey()
	s := &Signer{now: time.Now}
	s.signing.Store(&usableKey{key: k, from: time.Now(), until: time.Now().Add(time.Hour)})
	id := &verify.Identity{Label: "Twitch Bot", Permissions: []string{"bots:read", "bots:write"}}
	secrets := [][]byte{make([]byte, MinSecret)}
	for name, config := range map[string]Config{
		"bound": {}, "unbound": {Unbound: true}, "shared": {Secrets: secrets}, "shared,unbound": {Secrets: secrets, Unbound: true},
	} {
		config.Audience = "lumio-api"
		m, err := New(config)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Make(b.Context(), s, id, "GET", "https://api.example.com/bots/17"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("the signature alone", func(b *testing.B) {
		text := make([]byte, 500)
		for b.Loop() {
			ed25519.Sign(k.private, text)
		}
	})
}
