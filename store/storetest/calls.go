package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// call is one of the methods that ask the database.
type call func(ctx context.Context, s store.Store) error

// calls are all of them. Those that take a key are about this one.
func calls(key *store.Key) map[string]call {
	return map[string]call{
		"Migrate":   func(ctx context.Context, s store.Store) error { return s.Migrate(ctx) },
		"MintKey":   func(ctx context.Context, s store.Store) error { _, err := s.MintKey(ctx); return err },
		"CreateKey": func(ctx context.Context, s store.Store) error { return s.CreateKey(ctx, key, nil) },
		"Key":       func(ctx context.Context, s store.Store) error { _, err := s.Key(ctx, key.ID); return err },
		"Keys": func(ctx context.Context, s store.Store) error {
			_, err := s.Keys(ctx, &store.KeyQuery{Limit: 1, Sort: store.SortLabel})
			return err
		},
		"DeleteKey": func(ctx context.Context, s store.Store) error { _, err := s.DeleteKey(ctx, key.ID, nil); return err },
		"DeleteKeys": func(ctx context.Context, s store.Store) error {
			_, err := s.DeleteKeys(ctx, &store.KeyFilter{LabelPrefix: key.Label}, nil)
			return err
		},
		"MatchKeys": func(ctx context.Context, s store.Store) error {
			_, err := s.MatchKeys(ctx, &store.KeyFilter{LabelPrefix: key.Label})
			return err
		},
		"RotateKey": func(ctx context.Context, s store.Store) error {
			_, err := s.RotateKey(ctx, successorOf(key.ID, "cli"), nil)
			return err
		},
		"RehashKey": func(ctx context.Context, s store.Store) error {
			return s.RehashKey(ctx, key.ID, key.Hash, newHash())
		},
		"RecordUse": func(ctx context.Context, s store.Store) error {
			return s.RecordUse(ctx, []store.Use{{ID: key.ID, At: epoch}})
		},
		"Activity": func(ctx context.Context, s store.Store) error { _, err := s.Activity(ctx, key.ID); return err },
		"Asked":    func(ctx context.Context, s store.Store) error { _, err := s.Asked(ctx, []store.ID{key.ID}); return err },
		"ReportNetworks": func(ctx context.Context, s store.Store) error {
			return s.ReportNetworks(ctx, newNetwork, sealer{})
		},
		"Follow": func(ctx context.Context, s store.Store) error {
			feed, err := s.Follow(ctx)
			if err == nil {
				err = feed.Close()
			}
			return err
		},
		"Barrier": func(ctx context.Context, s store.Store) error { _, err := s.Barrier(ctx); return err },
		"Progress": func(ctx context.Context, s store.Store) error {
			_, err := s.Progress(ctx, []store.ID{key.ID}, nil)
			return err
		},
		"Leave": func(ctx context.Context, s store.Store) error { return s.Leave(ctx, key.ID) },
		"Reap":  func(ctx context.Context, s store.Store) error { _, err := s.Reap(ctx, key.ID, 1); return err },
		"Prune": func(ctx context.Context, s store.Store) error { return s.Prune(ctx, 1) },
		"AppendAudit": func(ctx context.Context, s store.Store) error {
			return s.AppendAudit(ctx, key.ID, []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, 1)}, sealer{})
		},
		"SealAudit": func(ctx context.Context, s store.Store) error { _, err := s.SealAudit(ctx, 1, sealer{}); return err },
		"Audit": func(ctx context.Context, s store.Store) error {
			_, err := s.Audit(ctx, &store.AuditQuery{Limit: 1})
			return err
		},
		"AuditLabel":    func(ctx context.Context, s store.Store) error { _, err := s.AuditLabel(ctx, key.ID); return err },
		"AuditChains":   func(ctx context.Context, s store.Store) error { _, err := s.AuditChains(ctx); return err },
		"AuditLinks":    func(ctx context.Context, s store.Store) error { _, err := s.AuditLinks(ctx, key.ID, 0, 1); return err },
		"AuditUnsealed": func(ctx context.Context, s store.Store) error { _, _, err := s.AuditUnsealed(ctx); return err },
		"PruneAudit": func(ctx context.Context, s store.Store) error {
			_, err := s.PruneAudit(ctx, epoch, 1, sealer{})
			return err
		},
		"CreateSession": func(ctx context.Context, s store.Store) error {
			return s.CreateSession(ctx, &store.Session{Digest: newDigest(), Key: key.ID, ExpiresAt: epoch})
		},
		"Session": func(ctx context.Context, s store.Store) error {
			_, err := s.Session(ctx, newDigest(), epoch)
			return err
		},
		"EndSession":    func(ctx context.Context, s store.Store) error { return s.EndSession(ctx, newDigest()) },
		"SpendNonce":    func(ctx context.Context, s store.Store) error { return s.SpendNonce(ctx, newDigest(), epoch) },
		"PruneSessions": func(ctx context.Context, s store.Store) error { _, err := s.PruneSessions(ctx, epoch, 1); return err },
		"Granted":       func(ctx context.Context, s store.Store) error { _, err := s.Granted(ctx, 1); return err },
		"PublishSigningKey": func(ctx context.Context, s store.Store) error {
			return s.PublishSigningKey(ctx, signingKey("a"), time.Minute)
		},
		"SigningKeys": func(ctx context.Context, s store.Store) error { _, err := s.SigningKeys(ctx); return err },
		"Adopted": func(ctx context.Context, s store.Store) error {
			_, err := s.Adopted(ctx, [][32]byte{newDigest()})
			return err
		},
		"Adopt": func(ctx context.Context, s store.Store) error {
			return s.Adopt(ctx, &store.AdoptedKey{Digest: newDigest(), Key: key.ID, Hash: key.Hash})
		},
		"Unadopted": func(ctx context.Context, s store.Store) error {
			_, _, err := s.Unadopted(ctx, nil, epoch, 1)
			return err
		},
		"Export": func(ctx context.Context, s store.Store) error { return s.Export(ctx, new(moved)) },
		"Import": func(ctx context.Context, s store.Store) error {
			return s.Import(ctx, func(store.Recipient) error { return nil })
		},
		"RecordUse of nothing": func(ctx context.Context, s store.Store) error {
			if err := s.RecordUse(ctx, nil); err != nil {
				return err
			}
			return s.Migrate(ctx) // which asks the database in any case
		},
	}
}

// shown are the calls that a meter is told of, by what it calls them.
var shown = map[string]string{
	"Key": "key", "Keys": "keys", "Granted": "granted", "CreateKey": "create_key", "DeleteKey": "delete_key",
	"DeleteKeys": "delete_keys", "MatchKeys": "match_keys", "RotateKey": "rotate_key",
	"RehashKey": "rehash_key", "Adopted": "adopted", "Adopt": "adopt", "Unadopted": "unadopted",
	"RecordUse": "record_use", "RecordUse of nothing": "record_use", "Progress": "progress",
	"Activity": "activity", "Asked": "asked", "ReportNetworks": "report_networks",
	"AppendAudit": "append_audit", "Audit": "audit", "Session": "session", "CreateSession": "create_session",
	"EndSession": "end_session", "SpendNonce": "spend_nonce", "SigningKeys": "signing_keys",
}

// Shown makes every call on a store, and fails the test unless exactly those are shown
// that are to be. Told returns the operations that were told of, and forgets them.
func Shown(t *testing.T, s store.Store, told func() []string) {
	t.Helper()
	must(t, s.Migrate(t.Context()))
	key := create(t, s, newKey("shown"))[0]
	told()
	for name, call := range calls(key) {
		_ = call(t.Context(), s) // whatever the answer is
		var want []string
		if operation, ok := shown[name]; ok {
			want = []string{operation}
		}
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("%s is shown as %q, want %q", name, got, want)
		}
	}
}

// refusedWithoutAnswer checks an error that says nothing about the key.
func refusedWithoutAnswer(tb testing.TB, name string, err error) {
	tb.Helper()
	if err == nil {
		tb.Errorf("%s succeeded", name)
	}
	for _, answer := range []error{store.ErrNotFound, store.ErrConflict, store.ErrActorGone, store.ErrOccupied} {
		if errors.Is(err, answer) {
			tb.Errorf("%s = %v, which is an answer", name, err)
		}
	}
}

func testClose(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"every call after Close says so": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("closed"))[0]
			must(t, s.Close())
			for name, call := range calls(key) {
				if err := call(t.Context(), s); !errors.Is(err, store.ErrClosed) {
					t.Errorf("%s = %v, want ErrClosed", name, err)
				}
			}
		},
		"Close can be repeated, also at the same time": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			var group errgroup.Group
			for range 4 {
				group.Go(s.Close)
			}
			must(t, group.Wait())
			must(t, s.Close())
		},
		"Close lets the calls that run finish": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("busy"))[0]
			var group errgroup.Group
			started := make(chan struct{}, 4)
			for range cap(started) {
				group.Go(func() error {
					for first := true; ; first = false {
						_, err := s.Key(t.Context(), key.ID)
						if errors.Is(err, store.ErrClosed) {
							return nil
						}
						if err != nil {
							return err
						}
						if first {
							started <- struct{}{}
						}
					}
				})
			}
			for range cap(started) {
				<-started
			}
			must(t, s.Close())
			must(t, group.Wait())
		},
	})
}
