package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// The secrets of these tests have these names.
var firstEra, secondEra = [32]byte{1}, [32]byte{2}

func testAdoption(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"an entry is found by any of its digests":            func(t *testing.T, b *Backend) { adoptedIsFound(t, b) },
		"an entry takes the place of those before":           func(t *testing.T, b *Backend) { adoptedAnew(t, b) },
		"candidates are foreign, live, and not entered":      func(t *testing.T, b *Backend) { candidates(t, b) },
		"candidates come in the order of their creation":     func(t *testing.T, b *Backend) { candidatesInOrder(t, b) },
		"entries end with their key, whoever ends it":        func(t *testing.T, b *Backend) { adoptionEnds(t, b) },
		"entries outlast what leaves the key as it is":       func(t *testing.T, b *Backend) { adoptionLasts(t, b) },
		"only a foreign key with this hash is entered":       func(t *testing.T, b *Backend) { adoptRefused(t, b) },
		"rows of others are foreign, and can be made ours":   func(t *testing.T, b *Backend) { othersAreForeign(t, b) },
		"entering and deleting at the same time":             func(t *testing.T, b *Backend) { adoptRaces(t, b) },
		"several who enter one key at the same time":         func(t *testing.T, b *Backend) { adoptTogether(t, b) },
		"that a key is foreign is a change, and no rekeying": func(t *testing.T, b *Backend) { mintedIsLogged(t, b) },
	})
}

// foreign returns a key that somebody else has minted.
func foreign(label string) *store.Key {
	key := newKey(label)
	key.Foreign = true
	return key
}

// adopt enters a key under a new digest.
func adopt(tb testing.TB, s store.Store, key *store.Key, era [32]byte) [32]byte {
	tb.Helper()
	digest := newDigest()
	must(tb, s.Adopt(tb.Context(), &store.AdoptedKey{Digest: digest, Era: era, Key: key.ID, Hash: key.Hash}))
	return digest
}

// adopted checks what is found by digests: a key, or none if it is nil.
func adopted(tb testing.TB, s store.Store, key *store.Key, digests ...[32]byte) {
	tb.Helper()
	got, err := s.Adopted(tb.Context(), digests)
	switch {
	case key == nil && !errors.Is(err, store.ErrNotFound):
		tb.Errorf("Adopted = %v, %v, want ErrNotFound", got.ID, err)
	case key != nil && (err != nil || got != store.Candidate{ID: key.ID, Hash: key.Hash}):
		tb.Errorf("Adopted = %v, %v, want %v with its hash", got.ID, err, key.ID)
	}
}

// unadopted checks which keys are candidates.
func unadopted(tb testing.TB, s store.Store, eras [][32]byte, want ...*store.Key) {
	tb.Helper()
	got, total, err := s.Unadopted(tb.Context(), eras, epoch, 100)
	must(tb, err)
	var ids, wanted []store.ID
	for _, key := range want {
		wanted = append(wanted, key.ID)
	}
	for i := range got {
		ids = append(ids, got[i].ID)
		if want := read(tb, s, got[i].ID).Hash; got[i].Hash != want {
			tb.Errorf("candidate %s has another hash than its row", got[i].ID)
		}
	}
	if diff := cmp.Diff(wanted, ids); diff != "" || total != len(want) {
		tb.Errorf("of %d candidates (-want +got):\n%s", total, diff)
	}
}

func adoptedIsFound(t *testing.T, b *Backend) {
	s := migrated(t, b)
	keys := create(t, s, foreign("one"), foreign("other"))
	first, second := adopt(t, s, keys[0], firstEra), adopt(t, s, keys[1], firstEra)
	adopted(t, s, keys[0], first)
	adopted(t, s, keys[0], newDigest(), first, newDigest())
	adopted(t, s, keys[1], second)
	adopted(t, s, nil, newDigest())
	adopted(t, s, nil)
	adopted(t, open(t, b), keys[0], first) // on another instance too
}

func adoptedAnew(t *testing.T, b *Backend) {
	s := migrated(t, b)
	keys := create(t, s, foreign("one"), foreign("other"))
	before := adopt(t, s, keys[0], firstEra)
	again := adopt(t, s, keys[0], firstEra)
	adopted(t, s, nil, before)
	adopted(t, s, keys[0], again)
	later := adopt(t, s, keys[0], secondEra) // beside the one of before
	adopted(t, s, keys[0], again)
	adopted(t, s, keys[0], later)
	must(t, s.Adopt(t.Context(), &store.AdoptedKey{Digest: again, Era: firstEra, Key: keys[1].ID, Hash: keys[1].Hash}))
	adopted(t, s, keys[1], again)
}

func candidates(t *testing.T, b *Backend) {
	s := migrated(t, b)
	ours, one, other, over, later := newKey("ours"), foreign("one"), foreign("other"), foreign("over"), foreign("later")
	one.CreatedAt = epoch.Add(-time.Hour)
	over.ExpiresAt, later.ExpiresAt, later.CreatedAt = epoch, epoch.Add(time.Microsecond), epoch.Add(time.Hour)
	create(t, s, ours, one, other, over, later)
	eras := [][32]byte{firstEra, secondEra}
	unadopted(t, s, eras, one, other, later)
	adopt(t, s, one, firstEra)
	adopt(t, s, other, secondEra)
	unadopted(t, s, eras, later)
	unadopted(t, s, eras[:1], other, later) // a secret that is not used any more finds nothing
	unadopted(t, s, nil, one, other, later)
}

func candidatesInOrder(t *testing.T, b *Backend) {
	s := migrated(t, b)
	for i := range 7 {
		key := foreign(fmt.Sprint(i))
		key.CreatedAt = epoch.Add(time.Duration(i*3%7) * time.Second)
		create(t, s, key)
	}
	keys, total, err := s.Unadopted(t.Context(), nil, epoch, 3)
	must(t, err)
	if len(keys) != 3 || total != 7 {
		t.Fatalf("%d of %d candidates, want 3 of 7", len(keys), total)
	}
	for i := range keys {
		if at := read(t, s, keys[i].ID).CreatedAt; !at.Equal(epoch.Add(time.Duration(i) * time.Second)) {
			t.Errorf("candidate %d is from %v", i, at)
		}
	}
}

// adoptionEnds brings each key back as it was, so that it is the entry that is gone.
func adoptionEnds(t *testing.T, b *Backend) {
	s := migrated(t, b)
	for name, end := range map[string]func(t *testing.T, key *store.Key){
		"deleted": func(t *testing.T, key *store.Key) {
			_, err := s.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
		},
		"deleted by plain SQL": func(t *testing.T, key *store.Key) {
			b.Exec(t, "DELETE FROM system_keys WHERE label = '"+key.Label+"'")
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
			keys := create(t, s, foreign(name), foreign("bystander"))
			first, second, bystander := adopt(t, s, keys[0], firstEra), adopt(t, s, keys[0], secondEra), adopt(t, s, keys[1], firstEra)
			end(t, keys[0])
			check := func() {
				adopted(t, s, nil, first, second)
				adopted(t, s, keys[1], bystander)
			}
			check()
			b.Exec(t, "DELETE FROM system_keys WHERE label = '"+name+"'")
			create(t, s, keys[0])
			check()
			unadopted(t, s, [][32]byte{firstEra}, keys[0])
			b.Exec(t, "DELETE FROM system_keys")
		})
	}
}

func adoptionLasts(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := create(t, s, foreign("bot"))[0]
	digest := adopt(t, s, key, firstEra)
	for range 2 {
		renewed := newHash()
		must(t, s.RehashKey(t.Context(), key.ID, key.Hash, renewed))
		key.Hash = renewed
		adopted(t, s, key, digest)
		unadopted(t, s, [][32]byte{firstEra})
	}
	must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: epoch}}))
	b.Exec(t, "UPDATE system_keys SET label = 'renamed', is_system = NOT is_system")
	_, err := s.Barrier(t.Context())
	must(t, err)
	must(t, s.Prune(t.Context(), 1))
	adopted(t, s, key, digest)
}

func adoptRefused(t *testing.T, b *Backend) {
	s := migrated(t, b)
	ours, theirs := newKey("ours"), foreign("theirs")
	create(t, s, ours, theirs)
	digest := newDigest()
	for name, c := range map[string]struct {
		key  store.AdoptedKey
		want error
	}{
		"a key of ours":    {store.AdoptedKey{Digest: digest, Key: ours.ID, Hash: ours.Hash}, store.ErrConflict},
		"another hash":     {store.AdoptedKey{Digest: digest, Key: theirs.ID, Hash: newHash()}, store.ErrConflict},
		"a key that is no": {store.AdoptedKey{Digest: digest, Key: newID(), Hash: theirs.Hash}, store.ErrNotFound},
	} {
		if err := s.Adopt(t.Context(), &c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: Adopt = %v, want %v", name, err, c.want)
		}
		adopted(t, s, nil, digest)
	}
}

func othersAreForeign(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := foreign("by SQL")
	b.Exec(t, fmt.Sprintf("INSERT INTO system_keys (id, label, key_hash) VALUES ('%s', '%s', '%s')", key.ID, key.Label, string(key.Hash)))
	create(t, s, newKey("ours"))
	if got := read(t, s, key.ID); !got.Foreign {
		t.Error("a row that others inserted is ours")
	}
	unadopted(t, s, nil, key)
	digest := adopt(t, s, key, firstEra)
	b.Exec(t, "UPDATE system_keys SET minted = true")
	if got := read(t, s, key.ID); got.Foreign {
		t.Error("a row that was made ours is foreign")
	}
	adopted(t, s, nil, digest)
	unadopted(t, s, nil)
}

func adoptRaces(t *testing.T, b *Backend) {
	one, other := migrated(t, b), migrated(t, b)
	for range 20 {
		key := create(t, one, foreign("raced"))[0]
		digest := newDigest()
		var group errgroup.Group
		group.Go(func() error {
			err := other.Adopt(t.Context(), &store.AdoptedKey{Digest: digest, Era: firstEra, Key: key.ID, Hash: key.Hash})
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		})
		_, err := one.DeleteKey(t.Context(), key.ID, nil)
		must(t, err)
		must(t, group.Wait())
		create(t, one, key)
		adopted(t, one, nil, digest)
		_, err = one.DeleteKey(t.Context(), key.ID, nil)
		must(t, err)
	}
}

func adoptTogether(t *testing.T, b *Backend) {
	one, other := migrated(t, b), migrated(t, b)
	key, digest := create(t, one, foreign("popular"))[0], newDigest()
	var group errgroup.Group
	for i := range 8 {
		s := []store.Store{one, other}[i%2]
		group.Go(func() error {
			return s.Adopt(t.Context(), &store.AdoptedKey{Digest: digest, Era: firstEra, Key: key.ID, Hash: key.Hash})
		})
	}
	must(t, group.Wait())
	adopted(t, one, key, digest)
}

func mintedIsLogged(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := create(t, s, foreign("bot"))[0]
	f := follow(t, s)
	turn := &store.Turn{Applied: head(t, s), Limit: 10}
	b.Exec(t, "UPDATE system_keys SET minted = true")
	b.Exec(t, "UPDATE system_keys SET minted = true")
	view, err := f.Pull(t.Context(), turn)
	must(t, err)
	if len(view.Changes) != 1 || view.Changes[0].Kind != store.KeyChanged || view.Changes[0].Key != key.ID {
		t.Errorf("logged is %+v", view.Changes)
	}
}

// head is the newest place in the log.
func head(tb testing.TB, s store.Store) store.Position {
	tb.Helper()
	progress, err := s.Progress(tb.Context(), nil, nil)
	must(tb, err)
	return progress.Head
}
