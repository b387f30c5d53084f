package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// moved is a recipient that remembers, and that may refuse.
type moved struct {
	mintKeys []store.MintKey
	keys     []store.Key
	chains   []store.AuditChain
	records  []store.AuditRecord
	// refuse is what Records returns.
	refuse error
}

func (m *moved) MintKey(_ context.Context, key store.MintKey) error {
	m.mintKeys = append(m.mintKeys, key)
	return nil
}

func (m *moved) Keys(_ context.Context, keys []store.Key) error {
	m.keys = append(m.keys, keys...)
	return nil
}

func (m *moved) Chains(_ context.Context, chains []store.AuditChain) error {
	m.chains = append(m.chains, chains...)
	return nil
}

func (m *moved) Records(_ context.Context, records []store.AuditRecord) error {
	m.records = append(m.records, records...)
	return m.refuse
}

func testMoving(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"everything that outlives a store is the same in another": func(t *testing.T, b *Backend) {
			from, to := migrated(t, b), migrated(t, fresh(t))
			furnish(t, from)
			before := exported(t, from)
			must(t, move(t, from, to))
			equal(t, before, exported(t, to))
			equal(t, before, exported(t, from))
			// More than a batch, every kind of record, and a chain with an anchor.
			if len(before.keys) < 1001 || len(before.records) < 1001 || len(before.chains) != 2 {
				t.Errorf("%d keys, %d records, %d chains", len(before.keys), len(before.records), len(before.chains))
			}
		},
		"a store that was moved to is used like any other": func(t *testing.T, b *Backend) {
			from, to := migrated(t, b), migrated(t, fresh(t))
			furnish(t, from)
			must(t, move(t, from, to))
			total(t, to, len(exported(t, from).keys))
			if page := one(t, to, &store.KeyQuery{Limit: 2, Sort: store.SortLabel, Search: "EVERY FIELD"}); len(page.Keys) != 1 {
				t.Errorf("the search finds %d keys", len(page.Keys))
			}
			// The chain goes on from where it was.
			must(t, to.CreateKey(t.Context(), newKey("next"), recorded(store.AuditCreated, sealer{})))
			if got, want := shared(t, to).Head.Seq, shared(t, from).Head.Seq+1; got != want {
				t.Errorf("the shared chain ends at %d, want %d", got, want)
			}
		},
		"an empty store can be moved": func(t *testing.T, b *Backend) {
			from, to := migrated(t, b), migrated(t, fresh(t))
			must(t, move(t, from, to))
			equal(t, exported(t, from), exported(t, to))
		},
		"a store with keys is left as it is":    movingInto(fresh, func(t *testing.T, s store.Store) { create(t, s, newKey("mine")) }),
		"a store with records is left as it is": movingInto(fresh, func(t *testing.T, s store.Store) { appendOne(t, s, sealer{}) }),
		"a store with servers is left as it is": movingInto(fresh, func(t *testing.T, s store.Store) { join(t, follow(t, s)) }),
		"a store that was pruned is left as it is": movingInto(fresh, func(t *testing.T, s store.Store) {
			appendOne(t, s, sealer{})
			_, err := s.PruneAudit(t.Context(), epoch.Add(time.Hour), 10, sealer{})
			must(t, err)
		}),
		"what fails half way leaves nothing": func(t *testing.T, b *Backend) {
			from, to := migrated(t, b), migrated(t, fresh(t))
			furnish(t, from)
			before := exported(t, to)
			broken := errors.New("the line is cut")
			err := to.Import(t.Context(), func(r store.Recipient) error {
				return errors.Join(from.Export(t.Context(), r), broken)
			})
			if !errors.Is(err, broken) {
				t.Errorf("Import = %v, want the error of what fills it", err)
			}
			equal(t, before, exported(t, to))
			total(t, to, 0)
			must(t, move(t, from, to)) // and can be tried again
		},
		"a recipient's error ends the export": func(t *testing.T, b *Backend) {
			from := migrated(t, b)
			furnish(t, from)
			full := &moved{refuse: errors.New("full")}
			if err := from.Export(t.Context(), full); !errors.Is(err, full.refuse) {
				t.Errorf("Export = %v, want the recipient's error", err)
			}
			if len(full.records) >= len(exported(t, from).records) {
				t.Error("it went on")
			}
		},
		"what cannot be taken is an error that does not show it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			twice, odd := newKey("twice"), newKey("odd")
			odd.Hash = "$argon2i$v=19$m=64,t=1,p=1$c2FsdA$c2VjcmV0"
			for name, keys := range map[string][]store.Key{"a key that comes twice": {*twice, *twice}, "another hash": {*odd}} {
				err := s.Import(t.Context(), func(r store.Recipient) error { return r.Keys(t.Context(), keys) })
				if err == nil {
					t.Errorf("%s was taken", name)
				} else if strings.Contains(err.Error(), string(keys[0].Hash)) {
					t.Errorf("%s: the error has the hash", name)
				}
			}
			total(t, s, 0)
		},
		"a schema from a newer program is not exported": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			b.Outdate(t)
			if err := s.Export(t.Context(), new(moved)); err == nil {
				t.Error("Export succeeded")
			}
		},
	})
}

// movingInto moves to a store that is furnished before.
func movingInto(fresh func(tb testing.TB) *Backend, prepare func(*testing.T, store.Store)) func(*testing.T, *Backend) {
	return func(t *testing.T, b *Backend) {
		from, to := migrated(t, b), migrated(t, fresh(t))
		create(t, from, newKey("theirs"))
		prepare(t, to)
		before := exported(t, to)
		err := to.Import(t.Context(), func(store.Recipient) error {
			t.Error("it was filled")
			return nil
		})
		if !errors.Is(err, store.ErrOccupied) {
			t.Errorf("Import = %v, want ErrOccupied", err)
		}
		equal(t, before, exported(t, to))
	}
}

// furnish fills a store with one of each, and with more than a few, which come in one
// transaction.
func furnish(t *testing.T, s store.Store) {
	t.Helper()
	keys := make([]store.Key, 1001)
	for i := range keys {
		keys[i] = *newKey(fmt.Sprintf("key %d", i))
	}
	must(t, s.Import(t.Context(), func(r store.Recipient) error { return r.Keys(t.Context(), keys) }))
	full := newKey("every field %\U0001F511")
	full.Permissions, full.IsSystem, full.Networks = []string{"bots:read", "bots:write"}, true, networks(t, "10.0.0.0/8", "::1")
	full.ExpiresAt, full.LastUsedAt = epoch.Add(time.Hour+time.Microsecond), epoch.Add(time.Minute)
	full.Replaces, full.ReplacedBy, full.Ancestors = newID(), newID(), []store.ID{newID(), newID()}
	full.PlannedExpiry, full.Grace = epoch.Add(2*time.Hour), 90*time.Millisecond
	must(t, s.CreateKey(t.Context(), full, recorded(store.AuditCreated, sealer{})))
	create(t, s, foreign("somebody else's"))
	gone := newKey("gone")
	must(t, s.CreateKey(t.Context(), gone, recorded(store.AuditCreated, nil)))
	_, err := s.DeleteKey(t.Context(), gone.ID, recorded(store.AuditRevoked, sealer{}))
	must(t, err)
	var records []store.AuditRecord
	for i := range 1010 {
		records = append(records, auditAt(full, store.AuditUsed, i))
	}
	must(t, s.AppendAudit(t.Context(), newID(), append(records, used(newKey("busy"), 0, 100)...), sealer{}))
	_, err = s.PruneAudit(t.Context(), epoch.Add(5*time.Second), 100, sealer{})
	must(t, err)
}

// appendOne writes a record of its own chain.
func appendOne(t *testing.T, s store.Store, by store.Sealer) {
	t.Helper()
	must(t, s.AppendAudit(t.Context(), newID(), []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, 1)}, by))
}

func exported(t *testing.T, s store.Store) *moved {
	t.Helper()
	var m moved
	must(t, s.Export(t.Context(), &m))
	if len(m.mintKeys) != 1 {
		t.Fatalf("%d mint keys", len(m.mintKeys))
	}
	return &m
}

// equal compares two exports, which are in the same order.
func equal(t *testing.T, want, got *moved) {
	t.Helper()
	if want.mintKeys[0] != got.mintKeys[0] {
		t.Error("the mint key is another")
	}
	if len(want.keys) != len(got.keys) {
		t.Fatalf("%d keys, want %d", len(got.keys), len(want.keys))
	}
	for i := range want.keys {
		same(t, &got.keys[i], &want.keys[i])
	}
	if diff := cmp.Diff(want.chains, got.chains); diff != "" {
		t.Errorf("the chains differ (-want +got):\n%s", diff)
	}
	if reflect.DeepEqual(want.records, got.records) {
		return // to find out by cmp takes long, for a thousand
	}
	if diff := cmp.Diff(want.records, got.records); diff != "" {
		t.Errorf("the records differ (-want +got):\n%s", diff)
	}
}

func move(t *testing.T, from, to store.Store) error {
	t.Helper()
	return to.Import(t.Context(), func(r store.Recipient) error { return from.Export(t.Context(), r) })
}

// shared is the chain of changes.
func shared(t *testing.T, s store.Store) store.AuditChain {
	t.Helper()
	chains, err := s.AuditChains(t.Context())
	must(t, err)
	for _, chain := range chains {
		if chain.ID == store.SharedChain {
			return chain
		}
	}
	t.Fatal("there is no chain of changes")
	return store.AuditChain{}
}
