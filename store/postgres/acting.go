package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// The locks keep the acting key from being deleted or changed until the write is
// committed. FOR SHARE lets several creations of one key go on at the same time;
// a deletion may be of the acting key itself, and two that share a lock on it
// would wait for each other. Two keys that delete one another wait in a circle
// too, which the server breaks.
const (
	forCreation = " FOR SHARE"
	forDeletion = " FOR UPDATE"
)

// on makes a change of a key in one transaction with the reading of the acting
// key and with its record, if it returns a key. The chain of records is locked
// last, when nothing but the commit is to come.
func (s *Store) on(ctx context.Context, write *store.Write, lock string, change func(db querier) (*store.Key, error)) error {
	return again(func() error {
		return s.durably(ctx, func(tx pgx.Tx) error {
			if err := allow(ctx, tx, write.By(), lock); err != nil {
				return err
			}
			key, err := change(tx)
			if err != nil || key == nil {
				return err
			}
			if record, ok := write.Records(key); ok {
				return appendAudit(ctx, tx, store.SharedChain, []store.AuditRecord{record}, write.Sealer)
			}
			return nil
		})
	})
}

// allow reads and locks the acting key.
func allow(ctx context.Context, tx pgx.Tx, acting *store.Acting, lock string) error {
	if acting == nil {
		return nil
	}
	key, err := scanKey(tx.QueryRow(ctx, "SELECT "+columns+" FROM system_keys WHERE id = $1"+lock, uuid(acting.ID)))
	if errors.Is(err, store.ErrNotFound) {
		return store.ErrActorGone
	}
	if err != nil {
		return err
	}
	return acting.Allow(key)
}
