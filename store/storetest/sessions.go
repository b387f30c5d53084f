package storetest

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// newDigest returns what could be the digest of a token.
func newDigest() (digest [32]byte) {
	_, _ = rand.Read(digest[:])
	return digest
}

// signIn creates a session of a key that lasts for an hour.
func signIn(tb reporter, s store.Store, key *store.Key) [32]byte {
	tb.Helper()
	digest := newDigest()
	must(tb, s.CreateSession(tb.Context(), &store.Session{Digest: digest, Key: key.ID, ExpiresAt: epoch.Add(time.Hour)}))
	return digest
}

// signedIn checks whether a session is live.
func signedIn(tb reporter, s store.Store, digest [32]byte, want bool) {
	tb.Helper()
	key, err := s.Session(tb.Context(), digest, epoch)
	switch {
	case want && err != nil:
		tb.Errorf("the session is over: %v", err)
	case !want && (key != nil || !errors.Is(err, store.ErrNotFound)):
		tb.Errorf("Session = %v, %v; want ErrNotFound", key, err)
	}
}

func testSessions(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a session gives its key as it is, without its hash": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			key := newKey("admin")
			key.Permissions, key.IsSystem = []string{"a:read", "b:read"}, true
			key.ExpiresAt, key.LastUsedAt = epoch.Add(-time.Minute), epoch // expired, which is for the caller to judge
			create(t, one, key, newKey("bystander"))
			digest := signIn(t, one, key)
			for _, s := range []store.Store{one, other} {
				got, err := s.Session(t.Context(), digest, epoch)
				must(t, err)
				same(t, got, withoutHash(key))
			}
			b.Exec(t, "UPDATE system_keys SET label = 'renamed' WHERE label = 'admin'")
			key.Label = "renamed"
			got, err := other.Session(t.Context(), digest, epoch)
			must(t, err)
			same(t, got, withoutHash(key))
		},
		"a session is live up to and not including its expiry": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("admin"))[0]
			digest := signIn(t, s, key)
			end := epoch.Add(time.Hour)
			if _, err := s.Session(t.Context(), digest, end.Add(-time.Microsecond)); err != nil {
				t.Errorf("just before its end: %v", err)
			}
			for _, now := range []time.Time{end, end.Add(time.Hour)} {
				if got, err := s.Session(t.Context(), digest, now); got != nil || !errors.Is(err, store.ErrNotFound) {
					t.Errorf("at %v: Session = %v, %v; want ErrNotFound", now, got, err)
				}
			}
		},
		"no other digest gives it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			digest := signIn(t, s, create(t, s, newKey("admin"))[0])
			signedIn(t, s, newDigest(), false)
			signedIn(t, s, [32]byte{}, false)
			digest[31] ^= 1
			signedIn(t, s, digest, false)
		},
		"a digest is not taken twice": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("one"), newKey("two"))
			digest := signIn(t, s, keys[0])
			again := &store.Session{Digest: digest, Key: keys[1].ID, ExpiresAt: epoch.Add(time.Hour)}
			if err := s.CreateSession(t.Context(), again); !errors.Is(err, store.ErrConflict) {
				t.Errorf("CreateSession = %v, want ErrConflict", err)
			}
			key, err := s.Session(t.Context(), digest, epoch)
			must(t, err)
			same(t, key, withoutHash(keys[0]))
		},
		"a key that is not there signs nobody in": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, newKey("bystander"))
			key := newKey("gone")
			session := &store.Session{Digest: newDigest(), Key: key.ID, ExpiresAt: epoch.Add(time.Hour)}
			if err := s.CreateSession(t.Context(), session); !errors.Is(err, store.ErrActorGone) {
				t.Errorf("CreateSession = %v, want ErrActorGone", err)
			}
			create(t, s, key) // nor does it later
			signedIn(t, s, session.Digest, false)
		},
		"signing out ends one session, on every instance, and once more is no error": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			key := create(t, one, newKey("admin"))[0]
			first, second := signIn(t, one, key), signIn(t, one, key)
			must(t, other.EndSession(t.Context(), first))
			must(t, other.EndSession(t.Context(), first))
			signedIn(t, one, first, false)
			signedIn(t, one, second, true)
		},
		"what is over is removed, the oldest first, so many at a time": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("admin"))[0]
			at := func(i int) time.Time { return epoch.Add(time.Duration(i) * time.Second) }
			var digests [][32]byte
			for i := range 5 {
				digests = append(digests, newDigest())
				must(t, s.CreateSession(t.Context(), &store.Session{Digest: digests[i], Key: key.ID, ExpiresAt: at(i)}))
				must(t, s.SpendNonce(t.Context(), digests[i], at(i)))
			}
			for _, step := range []struct{ now, limit, want, left int }{{-1, 10, 0, 5}, {2, 2, 4, 3}, {2, 2, 2, 2}, {2, 2, 0, 2}} {
				n, err := s.PruneSessions(t.Context(), at(step.now), step.limit)
				must(t, err)
				if n != step.want {
					t.Errorf("at second %d: %d removed, want %d", step.now, n, step.want)
				}
				for i, digest := range digests {
					_, err := s.Session(t.Context(), digest, at(-10)) // when none was over
					if there := err == nil; there != (i >= 5-step.left) {
						t.Errorf("at second %d: session %d: %v", step.now, i, err)
					}
				}
			}
			for i, digest := range digests {
				if err := s.SpendNonce(t.Context(), digest, at(i)); (err == nil) != (i < 3) {
					t.Errorf("nonce %d: SpendNonce = %v", i, err)
				}
			}
		},
	})
}

func testNonces(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a nonce is good for once, on whatever instance": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			digest := newDigest()
			must(t, one.SpendNonce(t.Context(), digest, epoch))
			for _, s := range []store.Store{one, other} {
				if err := s.SpendNonce(t.Context(), digest, epoch.Add(time.Hour)); !errors.Is(err, store.ErrConflict) {
					t.Errorf("SpendNonce = %v, want ErrConflict", err)
				}
			}
			must(t, other.SpendNonce(t.Context(), newDigest(), epoch))
		},
		"of those who spend a nonce at the same time one wins": func(t *testing.T, b *Backend) {
			instances := []store.Store{migrated(t, b), migrated(t, b)}
			for range 5 {
				digest := newDigest()
				won := make(chan struct{}, 8)
				var group errgroup.Group
				for i := range cap(won) {
					group.Go(func() error {
						err := instances[i%2].SpendNonce(t.Context(), digest, epoch)
						if err == nil {
							won <- struct{}{}
						} else if !errors.Is(err, store.ErrConflict) {
							return err
						}
						return nil
					})
				}
				must(t, group.Wait())
				if len(won) != 1 {
					t.Errorf("%d have spent it, want 1", len(won))
				}
			}
		},
	})
}
