package verify_test

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// shapes are keys as other services may have minted them.
var shapes = []string{
	"lm_sys_s",
	"lm_sys_2f9a-4c1b.7e_d0~a+b/c==",
	"lm_sys_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01234567890123",
	"lm_sys_" + string(bytes.Repeat([]byte("long"), 64)),
}

// Of these, tests move the clock by: for how long a string is known to be nobody's, a key
// that its row refuses is refused at once, and a row is known to be gone.
const (
	nobodyTTL    = time.Minute
	movedGrace   = time.Second
	negativesTTL = 2 * time.Second
)

// index is what a store knows of foreign keys, on top of the rows of a memory.
type index struct {
	*memory
	mu      sync.Mutex
	entries map[[32]byte]store.AdoptedKey
	reads   int
	lists   int
	// credulous has it return whatever is entered, as no store does.
	credulous bool
	// before runs before candidates are listed, and after behind an entry's reading.
	before, after func()
}

// adopting gives the verifier of a fixture an index.
func adopting(tb testing.TB, options ...func(*verify.Config)) (*fixture, *index) {
	tb.Helper()
	x := &index{entries: make(map[[32]byte]store.AdoptedKey)}
	first := func(c *verify.Config) {
		x.memory = c.Store.(*memory)
		c.Store = x
		c.Secrets = [][]byte{[]byte("first secret of the test")}
	}
	last := func(c *verify.Config) {
		if len(c.Secrets) == 0 {
			return
		}
		c.Adopt = adopt.New(adopt.Config{
			Store: c.Store.(*index), Secrets: c.Secrets, MaxEntries: cmp.Or(c.MaxEntries, verify.DefaultMaxEntries),
			Processors: 2, Logger: c.Logger, Now: c.Now,
		})
		tb.Cleanup(c.Adopt.Close)
	}
	return newFixture(tb, slices.Concat([]func(*verify.Config){first}, options, []func(*verify.Config){last})...), x
}

// again is another instance on the same store, or this one after a restart.
func (f *fixture) again(tb testing.TB, x *index, secrets ...string) *fixture {
	tb.Helper()
	other, _ := adopting(tb, func(c *verify.Config) {
		c.Store, c.Minter = x, f.minter
		if c.Secrets = nil; len(secrets) == 0 {
			secrets = []string{"first secret of the test"}
		}
		for _, s := range secrets {
			c.Secrets = append(c.Secrets, []byte(s))
		}
	})
	other.store, other.minter = f.store, f.minter
	return other
}

// foreign puts a key of another service into the store.
func (f *fixture) foreign(tb testing.TB, key string) store.ID {
	tb.Helper()
	return f.foreignHashed(tb, key, cheap)
}

func (f *fixture) foreignHashed(tb testing.TB, key string, params phc.Params) store.ID {
	tb.Helper()
	hash, err := phc.Hash(key, params)
	if err != nil {
		tb.Fatal(err)
	}
	id := store.ID(uuid.Must(uuid.NewV7()))
	f.store.put(store.Key{ID: id, Label: key[7:8], Hash: store.Hash(hash), Foreign: true})
	return id
}

// forge enters whatever is asked for, as who writes to the database can.
func (x *index) forge(change func(entries map[[32]byte]store.AdoptedKey)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(x.entries)
}

// counts says how often an entry was asked for, and candidates were listed.
func (x *index) counts() (reads, lists int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.reads, x.lists
}

func (x *index) Adopted(_ context.Context, digests [][32]byte) (store.Candidate, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reads++
	for _, digest := range digests {
		if e, ok := x.entries[digest]; ok && (x.credulous || x.refuses(&e) == nil) {
			found := store.Candidate{ID: e.Key, Hash: x.row(e.Key).Hash}
			if x.after != nil {
				x.after()
			}
			return found, nil
		}
	}
	return store.Candidate{}, store.ErrNotFound
}

// refuses says what is wrong with an entry: its row is gone, or is not one of another
// service with that hash.
func (x *index) refuses(e *store.AdoptedKey) error {
	x.memory.mu.Lock()
	defer x.memory.mu.Unlock()
	switch row, ok := x.rows[e.Key]; {
	case !ok:
		return store.ErrNotFound
	case !row.Foreign || row.Hash != e.Hash:
		return store.ErrConflict
	}
	return nil
}

// RehashKey has the entries of the key last.
func (x *index) RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.memory.RehashKey(ctx, id, old, renewed)
	for digest, e := range x.entries {
		if err == nil && e.Key == id && e.Hash == old {
			e.Hash = renewed
			x.entries[digest] = e
		}
	}
	return err
}

func (x *index) Adopt(_ context.Context, key *store.AdoptedKey) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.refuses(key); err != nil {
		return err
	}
	for digest, e := range x.entries {
		if e.Key == key.Key && e.Era == key.Era {
			delete(x.entries, digest)
		}
	}
	x.entries[key.Digest] = *key
	return nil
}

func (x *index) Unadopted(
	ctx context.Context, eras [][32]byte, now time.Time, limit int,
) (keys []store.Candidate, total int, err error) {
	if limit > 1 && x.before != nil { // and not to be counted
		x.before()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.memory.mu.Lock()
	defer x.memory.mu.Unlock()
	if x.fail != nil {
		return nil, 0, x.fail
	}
	if limit > 1 {
		x.lists++
	}
	entered := make(map[store.ID]bool)
	for _, e := range x.entries {
		entered[e.Key] = entered[e.Key] || slices.Contains(eras, e.Era) && x.rows[e.Key].Hash == e.Hash
	}
	for id, row := range x.rows {
		if row.Foreign && !row.Expired(now) && !entered[id] {
			keys = append(keys, store.Candidate{ID: id, Hash: row.Hash})
		}
	}
	slices.SortFunc(keys, func(a, b store.Candidate) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	total = len(keys)
	return keys[:min(limit, total)], total, ctx.Err()
}

// eventually waits for work in the background.
func eventually(tb testing.TB, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal("it does not come to this")
		}
	}
}
