package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// moveBatch is how many rows are moved at a time.
const moveBatch = 500

// Export implements [store.Moving].
func (s *Store) Export(ctx context.Context, to store.Recipient) error {
	var handing error
	// All statements see the state of the first.
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		e := &export{tx: tx, to: to}
		err := e.run(ctx, s)
		handing = e.handing
		return err
	})
	if handing != nil {
		return handing // not in the words of this database
	}
	return explain("export", err)
}

// export is one reading of everything.
type export struct {
	tx pgx.Tx
	to store.Recipient
	// handing is the recipient's error.
	handing error
}

func (e *export) run(ctx context.Context, s *Store) error {
	if err := e.source(ctx); err != nil {
		return err
	}
	key, err := mintKey(ctx, e.tx)
	if err != nil {
		return err
	}
	if err := e.hand(e.to.MintKey(ctx, key)); err != nil {
		return err
	}
	if err := e.keys(ctx); err != nil {
		return err
	}
	chains, err := s.chains(ctx, e.tx)
	if err != nil {
		return err
	}
	if err := e.hand(e.to.Chains(ctx, chains)); err != nil {
		return err
	}
	return e.records(ctx)
}

func (e *export) hand(err error) error {
	e.handing = err
	return err
}

// source refuses a standby, and any schema but the newest.
func (e *export) source(ctx context.Context) error {
	var standby bool
	if err := e.tx.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err
	}
	if standby {
		return store.ErrStandby
	}
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	version, err := schemaVersion(ctx, e.tx)
	if err == nil && version != len(files) {
		err = fmt.Errorf("the schema has version %d, not %d: bring it up to date first", version, len(files))
	}
	return err
}

func (e *export) keys(ctx context.Context) error {
	const batch = "SELECT " + columns + ", key_hash FROM system_keys WHERE id > $1 ORDER BY id LIMIT $2"
	for after := (store.ID{}); ; {
		rows, err := e.tx.Query(ctx, batch, uuid(after), moveBatch)
		if err != nil {
			return err
		}
		keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Key, error) {
			var hash string
			key, err := scanKey(row, &hash)
			if err != nil {
				return store.Key{}, err
			}
			key.Hash = store.Hash(hash)
			return *key, nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := e.hand(e.to.Keys(ctx, keys)); err != nil {
			return err
		}
		after = keys[len(keys)-1].ID
	}
}

func (e *export) records(ctx context.Context) error {
	const batch = "SELECT " + auditList + " FROM sidecar.audit_log WHERE id > $1 ORDER BY id LIMIT $2"
	for after := (store.ID{}); ; {
		rows, err := e.tx.Query(ctx, batch, uuid(after), moveBatch)
		if err != nil {
			return err
		}
		records, err := pgx.CollectRows(rows, scanAudit)
		if err != nil || len(records) == 0 {
			return err
		}
		if err := e.hand(e.to.Records(ctx, records)); err != nil {
			return err
		}
		after = records[len(records)-1].ID
	}
}
