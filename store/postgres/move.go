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

// lockForImport keeps everybody else from writing keys and records, and servers
// from joining, until the transaction ends. They go on reading.
const lockForImport = "LOCK TABLE system_keys, sidecar.member, sidecar.audit_chain, sidecar.audit_log IN SHARE ROW EXCLUSIVE MODE"

// Import implements [store.Moving]. The role must own the tables, as the one does
// that has migrated the schema.
func (s *Store) Import(ctx context.Context, fill func(to store.Recipient) error) error {
	var filling error
	// Not transact: fill reads elsewhere, and may take its time.
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockForImport); err != nil {
			return err
		}
		if err := unoccupied(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT "+durable); err != nil {
			return err
		}
		filling = fill(&recipient{tx: tx})
		return filling
	})
	if filling != nil {
		return filling // it says itself whose it is
	}
	return explain("import", err)
}

// unoccupied looks for what could not be joined with what comes.
func unoccupied(ctx context.Context, tx pgx.Tx) error {
	for _, c := range []struct{ table, what string }{
		{"system_keys", "keys"},
		{"sidecar.audit_log", "audit records"},
		{"sidecar.audit_chain", "chains of audit records"},
		{"sidecar.member", "servers that run on it, or have not signed off"},
	} {
		var occupied bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+c.table+")").Scan(&occupied); err != nil {
			return err
		}
		if occupied {
			return fmt.Errorf("%w: it has %s", store.ErrOccupied, c.what)
		}
	}
	return nil
}

// recipient is a [store.Recipient] that writes in a transaction, by COPY.
type recipient struct{ tx pgx.Tx }

func (r *recipient) MintKey(ctx context.Context, key store.MintKey) error {
	_, err := r.tx.Exec(ctx, "INSERT INTO sidecar.mint_key (key) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET key = excluded.key", key[:])
	return explain("import the mint key", err)
}

// keyColumns are those that Keys writes.
var keyColumns = []string{
	"id", "label", "permissions", "is_system", "created_at", "created_by", "expires_at", "last_used_at", "minted", "key_hash",
}

func (r *recipient) Keys(ctx context.Context, keys []store.Key) error {
	return r.copy(ctx, "import keys", pgx.Identifier{"system_keys"}, keyColumns, len(keys), func(i int) []any {
		k := &keys[i]
		return []any{
			uuid(k.ID), k.Label, append([]string{}, k.Permissions...), k.IsSystem, k.CreatedAt, k.CreatedBy,
			instant(k.ExpiresAt), instant(k.LastUsedAt), !k.Foreign, string(k.Hash),
		}
	})
}

func (r *recipient) Chains(ctx context.Context, chains []store.AuditChain) error {
	columns := []string{"id", "seq", "mac", "signature", "anchor_seq", "anchor_mac", "anchor_signature"}
	table := pgx.Identifier{"sidecar", "audit_chain"}
	return r.copy(ctx, "import chains of audit records", table, columns, len(chains), func(i int) []any {
		c := &chains[i]
		return []any{
			uuid(c.ID), c.Head.Seq, bytea(c.Head.MAC), bytea(c.Head.Signature),
			c.Anchor.Seq, bytea(c.Anchor.MAC), bytea(c.Anchor.Signature),
		}
	})
}

func (r *recipient) Records(ctx context.Context, records []store.AuditRecord) error {
	table := pgx.Identifier{"sidecar", "audit_log"}
	return r.copy(ctx, "import audit records", table, auditColumns, len(records), func(i int) []any {
		return auditRow(&records[i])
	})
}

func (r *recipient) copy(
	ctx context.Context, what string, table pgx.Identifier, columns []string, n int, row func(i int) []any,
) error {
	_, err := r.tx.CopyFrom(ctx, table, columns,
		pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	return explain(what, err)
}

// bytea is never NULL, which the columns of a chain must not be.
func bytea(b []byte) []byte { return append([]byte{}, b...) }

var _ store.Recipient = (*recipient)(nil)
