package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	selectKnown   = "SELECT " + keyColumns + " FROM system_keys WHERE id = ANY ($1)"
	selectRevoked = "SELECT DISTINCT key_id FROM sidecar.audit_log WHERE key_id = ANY ($1) AND event = $2"
)

// KnownKeys implements [store.Moving].
func (s *Store) KnownKeys(ctx context.Context, ids []store.ID) (keys []store.Key, revoked []store.ID, err error) {
	ctx, end := s.call(ctx, "known_keys", "look for keys")
	defer end(&err)
	all := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		all[i] = uuid(id)
	}
	// In this order a key that is revoked meanwhile is in one of the answers at least.
	keys, err = collect(ctx, s.pool, func(row sqlstore.Row) (store.Key, error) { return sqlstore.WithHash(row, scanKey) }, selectKnown, all)
	if err != nil {
		return nil, nil, err
	}
	revoked, err = collect(ctx, s.pool, func(row sqlstore.Row) (id store.ID, err error) {
		err = row.Scan(sqlstore.ID(&id))
		return id, err
	}, selectRevoked, all, string(store.AuditRevoked))
	if err != nil {
		return nil, nil, err
	}
	return keys, revoked, nil
}

// AddKeys implements [store.Moving].
func (s *Store) AddKeys(ctx context.Context, fill func(add func(keys []store.Key) error) error) error {
	if s.pool.Config().MaxConns < 2 {
		// Fill may call KnownKeys, which would wait for the connection of the transaction.
		return errors.New("add keys: the DSN sets pool_max_conns to 1, and 2 are needed")
	}
	return sqlstore.AddKeys(ctx, fill, func(do func(to store.Recipient) error) error {
		// As in Import, fill may keep this transaction idle for long.
		return explain("add keys", pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT "+durable); err != nil {
				return err
			}
			return do(&recipient{tx: tx})
		}))
	})
}
