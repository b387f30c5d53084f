package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testSessionEnds(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"sessions end with their key, whoever ends it":      func(t *testing.T, b *Backend) { sessionsEnd(t, b) },
		"sessions end when a key of others is made ours":    func(t *testing.T, b *Backend) { sessionsEndWithAdoption(t, b) },
		"sessions outlast what leaves the key as it is":     func(t *testing.T, b *Backend) { sessionsLast(t, b) },
		"who signs in while the key is deleted is out":      func(t *testing.T, b *Backend) { signInRaces(t, b) },
		"who signs in while the key is rehashed is in":      func(t *testing.T, b *Backend) { signInBesideRehash(t, b) },
		"deletions and pruning at the same time end it all": func(t *testing.T, b *Backend) { pruneBesideDeletes(t, b) },
	})
}

// sessionsEnd brings each key back as it was, so that it is the session that is
// gone, and not only its key.
func sessionsEnd(t *testing.T, b *Backend) {
	s := migrated(t, b)
	for name, end := range map[string]func(t *testing.T, key *store.Key){
		"deleted": func(t *testing.T, key *store.Key) {
			_, err := s.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
		},
		"deleted by itself": func(t *testing.T, key *store.Key) {
			_, err := s.DeleteKey(t.Context(), key.ID, onWord(key.ID, yes))
			must(t, err)
		},
		"deleted by plain SQL": func(t *testing.T, key *store.Key) {
			b.Exec(t, "DELETE FROM system_keys WHERE label = '"+key.Label+"'")
		},
		"given another hash by plain SQL": func(t *testing.T, key *store.Key) {
			b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s' WHERE label = '%s'", string(newHash()), key.Label))
		},
		"given another hash and its own again": func(t *testing.T, key *store.Key) {
			for _, hash := range []store.Hash{newHash(), key.Hash} {
				b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s' WHERE label = '%s'", string(hash), key.Label))
			}
		},
		"given another id": func(t *testing.T, key *store.Key) {
			b.Exec(t, fmt.Sprintf("UPDATE system_keys SET id = '%s' WHERE label = '%s'", newID(), key.Label))
		},
	} {
		t.Run(name, func(t *testing.T) {
			keys := create(t, s, newKey(name), newKey("bystander"))
			first, second, bystander := signIn(t, s, keys[0]), signIn(t, s, keys[0]), signIn(t, s, keys[1])
			end(t, keys[0])
			check := func() {
				signedIn(t, s, first, false)
				signedIn(t, s, second, false)
				signedIn(t, s, bystander, true)
			}
			check()
			b.Exec(t, "DELETE FROM system_keys WHERE label = '"+name+"'")
			create(t, s, keys[0])
			check()
			signedIn(t, s, signIn(t, s, keys[0]), true)
		})
	}
}

func sessionsEndWithAdoption(t *testing.T, b *Backend) {
	s := migrated(t, b)
	keys := create(t, s, foreign("adopted"), foreign("bystander"))
	digest, bystander := signIn(t, s, keys[0]), signIn(t, s, keys[1])
	for _, minted := range []string{"true", "false"} { // and it does not come back
		b.Exec(t, "UPDATE system_keys SET minted = "+minted+" WHERE label = 'adopted'")
		signedIn(t, s, digest, false)
		signedIn(t, s, bystander, true)
	}
	signedIn(t, s, signIn(t, s, keys[0]), true)
}

func sessionsLast(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := create(t, s, newKey("admin"))[0]
	digest := signIn(t, s, key)
	for range 2 {
		renewed := newHash()
		must(t, s.RehashKey(t.Context(), key.ID, key.Hash, renewed))
		key.Hash = renewed
		signedIn(t, s, digest, true)
	}
	must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: epoch}}))
	b.Exec(t, "UPDATE system_keys SET label = 'renamed', is_system = NOT is_system")
	signedIn(t, s, digest, true)
	other := create(t, s, newKey("other"))[0]
	_, err := s.DeleteKey(t.Context(), other.ID, nil)
	must(t, err)
	_, err = s.Barrier(t.Context())
	must(t, err)
	must(t, s.Prune(t.Context(), 1))
	signedIn(t, s, digest, true)
	if err := s.RehashKey(t.Context(), key.ID, newHash(), newHash()); !errors.Is(err, store.ErrConflict) {
		t.Errorf("RehashKey = %v, want ErrConflict", err)
	}
	signedIn(t, s, digest, true)
}

func signInRaces(t *testing.T, b *Backend) {
	one, other := migrated(t, b), migrated(t, b)
	for range 30 {
		key := create(t, one, newKey("raced"))[0]
		var group errgroup.Group
		var digests [3][32]byte
		for i := range digests {
			digests[i] = newDigest()
			group.Go(func() error {
				err := other.CreateSession(t.Context(), &store.Session{Digest: digests[i], Key: key.ID, ExpiresAt: epoch.Add(time.Hour)})
				if errors.Is(err, store.ErrActorGone) {
					return nil
				}
				return err
			})
		}
		_, err := one.DeleteKey(context.WithoutCancel(t.Context()), key.ID, nil)
		must(t, err)
		must(t, group.Wait())
		create(t, one, key)
		for _, digest := range digests {
			signedIn(t, one, digest, false)
		}
	}
}

func signInBesideRehash(t *testing.T, b *Backend) {
	one, other := migrated(t, b), migrated(t, b)
	key := create(t, one, newKey("raced"))[0]
	for range 30 {
		renewed, digest := newHash(), newDigest()
		var group errgroup.Group
		group.Go(func() error { return one.RehashKey(t.Context(), key.ID, key.Hash, renewed) })
		must(t, other.CreateSession(t.Context(), &store.Session{Digest: digest, Key: key.ID, ExpiresAt: epoch.Add(time.Hour)}))
		must(t, group.Wait())
		key.Hash = renewed
		signedIn(t, one, digest, true)
	}
}

func pruneBesideDeletes(t *testing.T, b *Backend) {
	one, other := migrated(t, b), migrated(t, b)
	var keys []*store.Key
	for range 20 {
		key := create(t, one, newKey("many"))[0]
		keys = append(keys, key)
		for range 5 {
			signIn(t, one, key)
		}
	}
	var group errgroup.Group
	group.Go(func() error {
		for _, key := range keys[:10] {
			if _, err := one.DeleteKey(t.Context(), key.ID, nil); err != nil {
				return err
			}
		}
		return nil
	})
	pruned := make(chan int, 2)
	for range cap(pruned) {
		group.Go(func() error {
			for removed := 0; ; {
				n, err := other.PruneSessions(t.Context(), epoch.Add(2*time.Hour), 7)
				if removed += n; err != nil || n == 0 {
					pruned <- removed
					return err
				}
			}
		})
	}
	must(t, group.Wait())
	if n := <-pruned + <-pruned; n < 50 || n > 100 {
		t.Errorf("%d sessions were pruned, want 50 to 100", n)
	}
	if n, err := one.PruneSessions(t.Context(), epoch.Add(2*time.Hour), 100); n != 0 || err != nil {
		t.Errorf("%d sessions are left (%v)", n, err)
	}
}
