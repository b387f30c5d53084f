package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// moveBatch is how many rows are moved at a time.
const moveBatch = 500

// Export implements [store.Moving].
func (s *Store) Export(ctx context.Context, to store.Recipient) error {
	handing := &handing{to: to}
	err := s.read(ctx, "export", func(tx *sql.Tx) error { return export(ctx, tx, handing) })
	if handing.err != nil {
		return handing.err // not in the words of this file
	}
	return err
}

func export(ctx context.Context, tx *sql.Tx, to *handing) error {
	if err := currentSchema(ctx, tx); err != nil {
		return err
	}
	key, err := mintKey(ctx, tx)
	if err != nil {
		return err
	}
	if err := to.hand(to.to.MintKey(ctx, key)); err != nil {
		return err
	}
	if err := exportKeys(ctx, tx, to); err != nil {
		return err
	}
	chains, err := auditChains(ctx, tx)
	if err != nil {
		return err
	}
	if err := to.hand(to.to.Chains(ctx, chains)); err != nil {
		return err
	}
	return exportRecords(ctx, tx, to)
}

// handing keeps the recipient's error apart from those of the source.
type handing struct {
	to  store.Recipient
	err error
}

func (h *handing) hand(err error) error {
	h.err = err
	return err
}

// currentSchema refuses any schema but the newest.
func currentSchema(ctx context.Context, tx *sql.Tx) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx)
	if err == nil && version != len(files) {
		err = fmt.Errorf("the schema has version %d, not %d: bring it up to date first", version, len(files))
	}
	return err
}

func exportKeys(ctx context.Context, tx *sql.Tx, to *handing) error {
	const batch = "SELECT " + columns + ", key_hash FROM system_keys WHERE id > ? ORDER BY id LIMIT ?"
	for after := ""; ; {
		rows, err := tx.QueryContext(ctx, batch, after, moveBatch)
		if err != nil {
			return err
		}
		keys, err := keysWithHashes(rows)
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := to.hand(to.to.Keys(ctx, keys)); err != nil {
			return err
		}
		after = keys[len(keys)-1].ID.String()
	}
}

func keysWithHashes(rows *sql.Rows) (keys []store.Key, err error) {
	defer func() { _ = rows.Close() }() // its error is Err's
	for rows.Next() {
		var hash string
		key, err := scanKey(rows, &hash)
		if err != nil {
			return nil, err
		}
		key.Hash = store.Hash(hash)
		keys = append(keys, *key)
	}
	return keys, rows.Err()
}

func exportRecords(ctx context.Context, tx *sql.Tx, to *handing) error {
	const batch = "SELECT " + auditColumns + " FROM audit_log WHERE id > ? ORDER BY id LIMIT ?"
	for after := ""; ; {
		records, err := auditRecords(tx.QueryContext(ctx, batch, after, moveBatch))
		if err != nil || len(records) == 0 {
			return err
		}
		if err := to.hand(to.to.Records(ctx, records)); err != nil {
			return err
		}
		after = records[len(records)-1].ID.String()
	}
}

// insertKey takes what keyRow returns.
const insertKey = "INSERT INTO system_keys (" + columns + ", key_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

// Import implements [store.Moving].
func (s *Store) Import(ctx context.Context, fill func(to store.Recipient) error) error {
	var filling error
	err := s.write(ctx, "import", func(tx *sql.Tx) error {
		if err := unoccupied(ctx, tx); err != nil {
			return err
		}
		filling = fill(&recipient{tx: tx, store: s})
		return filling
	})
	if filling != nil {
		return filling // not in the words of this file
	}
	return err
}

// unoccupied looks for what could not be joined with what comes. The transaction
// is the only one that writes.
func unoccupied(ctx context.Context, tx *sql.Tx) error {
	for _, c := range []struct{ table, what string }{
		{"system_keys", "keys"},
		{"audit_log", "audit records"},
		{"audit_chain", "chains of audit records"},
		{"member", "servers that run on it, or have not signed off"},
	} {
		var occupied bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+c.table+")").Scan(&occupied); err != nil {
			return err
		}
		if occupied {
			return fmt.Errorf("%w: it has %s", store.ErrOccupied, c.what)
		}
	}
	return nil
}

// recipient is a [store.Recipient] that writes in a transaction.
type recipient struct {
	tx    *sql.Tx
	store *Store
}

func (r *recipient) MintKey(ctx context.Context, key store.MintKey) error {
	_, err := r.tx.ExecContext(ctx, "UPDATE mint_key SET key = ?", key[:])
	return r.explain(ctx, "import the mint key", err)
}

func (r *recipient) Keys(ctx context.Context, keys []store.Key) error {
	return r.each(ctx, "import keys", insertKey, len(keys), func(i int) ([]any, error) { return keyRow(&keys[i]) })
}

func (r *recipient) Chains(ctx context.Context, chains []store.AuditChain) error {
	const insert = "INSERT INTO audit_chain (id, seq, mac, signature, anchor_seq, anchor_mac, anchor_signature) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?)"
	return r.each(ctx, "import chains of audit records", insert, len(chains), func(i int) ([]any, error) {
		c := &chains[i]
		return []any{
			c.ID.String(), c.Head.Seq, blob(c.Head.MAC), blob(c.Head.Signature),
			c.Anchor.Seq, blob(c.Anchor.MAC), blob(c.Anchor.Signature),
		}, nil
	})
}

func (r *recipient) Records(ctx context.Context, records []store.AuditRecord) error {
	return r.each(ctx, "import audit records", insertAudit, len(records), func(i int) ([]any, error) {
		return auditRow(&records[i]), nil
	})
}

// each runs a statement for n rows.
func (r *recipient) each(ctx context.Context, what, statement string, n int, row func(i int) ([]any, error)) error {
	insert, err := r.tx.PrepareContext(ctx, statement)
	if err != nil {
		return r.explain(ctx, what, err)
	}
	defer func() { _ = insert.Close() }() // its error is that of the transaction
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

func (r *recipient) explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, r.store.explain(ctx, err))
}

// keyRow returns the columns of a key, the hash behind them.
func keyRow(key *store.Key) ([]any, error) {
	permissions, err := json.Marshal(append([]string{}, key.Permissions...)) // never null
	if err != nil {
		return nil, err
	}
	return []any{
		key.ID.String(), key.Label, string(permissions), key.IsSystem, micros(key.CreatedAt), key.CreatedBy,
		micros(key.ExpiresAt), micros(key.LastUsedAt), !key.Foreign, string(key.Hash),
	}, nil
}

// blob is never NULL, which the columns of a chain must not be.
func blob(b []byte) []byte { return append([]byte{}, b...) }

var _ store.Recipient = (*recipient)(nil)
