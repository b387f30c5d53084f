package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Export implements [store.Moving].
//
// It is one transaction, so all batches are of one state. While it lasts, the log cannot be reset
// and grows with what is written (https://sqlite.org/wal.html section 6).
func (s *Store) Export(ctx context.Context, to store.Recipient) error {
	return sqlstore.Export(ctx, to, func(do func(from sqlstore.Source) error) error {
		return s.read(ctx, "export", func(tx *sql.Tx) error {
			version, err := schemaVersion(ctx, tx)
			if err == nil {
				err = migrations.Newest(version)
			}
			if err != nil {
				return err
			}
			return do(source{tx})
		})
	})
}

// source is a [sqlstore.Source].
type source struct{ tx *sql.Tx }

func (s source) MintKey(ctx context.Context) (store.MintKey, error) { return mintKey(ctx, s.tx) }

func (s source) Keys(ctx context.Context, after store.ID, limit int) ([]store.Key, error) {
	return collect(ctx, s.tx, func(row sqlstore.Row) (store.Key, error) { return sqlstore.WithHash(row, scanKey) },
		"SELECT "+columns+", key_hash FROM system_keys WHERE id > ? ORDER BY id LIMIT ?", after.String(), limit)
}

func (s source) Chains(ctx context.Context) ([]store.AuditChain, error) {
	return auditChains(ctx, s.tx)
}

func (s source) Records(ctx context.Context, after store.ID, limit int) ([]store.AuditRecord, error) {
	return auditRecords(ctx, s.tx,
		"SELECT "+sqlstore.AuditColumns+" FROM audit_log WHERE id > ? ORDER BY id LIMIT ?", after.String(), limit)
}

// Import implements [store.Moving]. It holds the write lock as long as fill takes. Writers in other
// processes wait for that, and give up after busyTimeout.
func (s *Store) Import(ctx context.Context, fill func(to store.Recipient) error) error {
	return sqlstore.Import(fill, func(do func(to store.Recipient) error) error {
		// No other transaction writes at the same time.
		return s.write(ctx, "import", func(tx *sql.Tx) error {
			err := sqlstore.Unoccupied("system_keys", "", func(table string) (occupied bool, err error) {
				err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table+")").Scan(&occupied)
				return occupied, err
			})
			if err != nil {
				return err
			}
			return do(&recipient{tx: tx, store: s})
		})
	})
}

// KnownKeys implements [store.Moving]. Keys and revoked are of one state. See jsonIDs for why the
// ids are one argument.
func (s *Store) KnownKeys(ctx context.Context, ids []store.ID) (keys []store.Key, revoked []store.ID, err error) {
	ctx, end := s.calls.Begin(ctx, "known_keys")
	defer end(&err)
	const asked = "(SELECT value FROM json_each(?))"
	err = s.read(ctx, "look for keys", func(tx *sql.Tx) (err error) {
		keys, err = collect(ctx, tx, func(row sqlstore.Row) (store.Key, error) { return sqlstore.WithHash(row, scanKey) },
			"SELECT "+columns+", key_hash FROM system_keys WHERE id IN "+asked, jsonIDs(ids))
		if err != nil {
			return err
		}
		revoked, err = collect(ctx, tx, sqlstore.ScanID, "SELECT DISTINCT key_id FROM audit_log WHERE key_id IN "+asked+" AND event IN ('api_key.revoked', 'api_key.expired')", jsonIDs(ids))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return keys, revoked, nil
}

// AddKeys implements [store.Moving]. The write lock is held as long as fill takes.
func (s *Store) AddKeys(ctx context.Context, fill func(add func(keys []store.Key) error) error) error {
	return sqlstore.AddKeys(ctx, fill, func(do func(to store.Recipient) error) error {
		return s.write(ctx, "add keys", func(tx *sql.Tx) error { return do(&recipient{tx: tx, store: s}) })
	})
}

// recipient is a [store.Recipient] that writes in the transaction of an import.
type recipient struct {
	tx    *sql.Tx
	store *Store
}

// MintKey replaces the one that the first migration has made.
func (r *recipient) MintKey(ctx context.Context, key store.MintKey) error {
	_, err := r.tx.ExecContext(ctx, "UPDATE mint_key SET key = ?", key[:])
	return r.explain(ctx, "import the mint key", err)
}

func (r *recipient) Keys(ctx context.Context, keys []store.Key) error {
	return r.each(ctx, "import keys", insertKey, len(keys), func(i int) ([]any, error) { return keyRow(&keys[i]) })
}

func (r *recipient) Chains(ctx context.Context, chains []store.AuditChain) error {
	const insert = "INSERT INTO audit_chain (" + sqlstore.ChainColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?)"
	return r.each(ctx, "import chains of audit records", insert, len(chains), func(i int) ([]any, error) {
		return values.ChainRow(&chains[i]), nil
	})
}

func (r *recipient) Records(ctx context.Context, records []store.AuditRecord) error {
	rows := values.AuditRows(records)
	return r.each(ctx, "import audit records", insertAudit, len(rows), func(i int) ([]any, error) { return rows[i], nil })
}

// each runs a statement once for each of n rows. The statement is prepared once. The first error
// ends it.
func (r *recipient) each(ctx context.Context, what, statement string, n int, row func(i int) ([]any, error)) error {
	insert, err := r.tx.PrepareContext(ctx, statement)
	if err != nil {
		return r.explain(ctx, what, err)
	}
	defer func() { _ = insert.Close() }() // the transaction reports the error
	for i := range n {
		args, err := row(i)
		if err == nil {
			_, err = insert.ExecContext(ctx, args...)
		}
		if err != nil {
			return r.explain(ctx, what, err)
		}
	}
	return nil
}

// explain adds what was done, and turns an error into one of the contract. That cannot wait until
// the end of the transaction: what fill returns goes past the explain of the store.
func (r *recipient) explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, r.store.explain(ctx, err))
}

var _ store.Recipient = (*recipient)(nil)
