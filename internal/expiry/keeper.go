// Package expiry looks after keys that end by themselves. A [Keeper] deletes them some time
// after their expiry, and counts those that expire soon. Keys that were replaced it deletes
// as soon as nobody can have missed their end.
package expiry

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// retryEvery is how soon a deletion that has failed is tried again.
	retryEvery = 10 * time.Second
	// deleteLimit is how many keys are deleted in one transaction, and deleteTimeout bounds
	// it.
	deleteLimit   = 1000
	deleteTimeout = 30 * time.Second
)

// Store is the part of a [store.Store] that this package uses.
type Store interface {
	DeleteKeys(ctx context.Context, filter *store.KeyFilter, write *store.Write) ([]*store.Key, error)
	Keys(ctx context.Context, query *store.KeyQuery) (*store.KeyPage, error)
}

// Config is what a [Keeper] needs. All fields are required.
type Config struct {
	Store  Store
	Sealer store.Sealer
	Logger *slog.Logger
	Now    func() time.Time
	// Name names this instance in the records of the deletions.
	Name string
	// Retention is how long expired keys are kept.
	Retention time.Duration
}

// Keeper deletes keys whose expiry is [Config.Retention] ago, and keys that are
// [store.KeyFilter.Retired], when [Keeper.Delete] says that there are some. Any number of
// instances may do so at the same time: each key is deleted, and recorded, by one of them. It
// is safe for concurrent use.
type Keeper struct {
	config Config
	worker *worker.Worker
	due    atomic.Bool // there may be keys to delete
	counts counts
}

// Start starts a keeper, which works until [Keeper.Close].
func Start(config Config) *Keeper {
	k := &Keeper{config: config}
	k.worker = worker.Start(worker.Work{
		Turn: func(ctx context.Context) error {
			if !k.due.Swap(false) {
				return nil
			}
			err := worker.Repeat(ctx, deleteTimeout, k.delete)
			if err != nil {
				k.due.Store(true)
			}
			return err
		},
		Every: retryEvery,
		Later: true,
		Failing: func(err error) {
			config.Logger.Warn("expired keys are not deleted, will be tried again", slog.Any("error", err))
		},
	})
	return k
}

// Before is the time before which keys must have expired, to be deleted now. The clock is that
// of this machine.
func (k *Keeper) Before() time.Time { return k.config.Now().Add(-k.config.Retention) }

// Delete says that there are keys to delete. It does not wait.
func (k *Keeper) Delete() {
	k.due.Store(true)
	k.worker.Wake()
}

// Close ends the work, and waits for the call that is running.
func (k *Keeper) Close() { k.worker.Close() }

// delete deletes some keys of each kind with their records, in one transaction each. Another
// instance may have deleted them by then, which is no error.
func (k *Keeper) delete(ctx context.Context) (more bool, err error) {
	for _, filter := range []*store.KeyFilter{
		{Retired: true, Limit: deleteLimit}, {ExpiredBefore: k.Before(), Limit: deleteLimit},
	} {
		keys, err := k.config.Store.DeleteKeys(ctx, filter, &store.Write{Record: k.record, Sealer: k.config.Sealer})
		if err != nil {
			return false, err
		}
		if len(keys) > 0 {
			k.config.Logger.Info("keys that have ended were deleted", slog.Int("keys", len(keys)))
		}
		more = more || len(keys) == deleteLimit
	}
	return more, nil
}

// record is the record of a deletion. A key that was replaced was retired by that, even if it
// is deleted as one that has expired: then the retention is shorter than a lease.
func (k *Keeper) record(key *store.Key) store.AuditRecord {
	event := store.AuditExpired
	details := map[string]any{"expires_at": key.ExpiresAt, "created_by": key.CreatedBy, "created_at": key.CreatedAt}
	if !key.LastUsedAt.IsZero() {
		details["last_used_at"] = key.LastUsedAt
	}
	if key.ReplacedBy != (store.ID{}) {
		event = store.AuditRevoked
		details["reason"], details["replaced_by"] = "rotated", key.ReplacedBy
	}
	text, err := json.Marshal(details)
	if err != nil { // cannot happen with texts and times of four-digit years
		text = nil
	}
	return store.AuditRecord{
		Event:   event,
		At:      k.config.Now(),
		Actor:   store.AuditActor{Type: store.ActorServer, ID: k.config.Name},
		Key:     store.AuditKey{ID: key.ID, Label: key.Label},
		Details: text,
	}
}
