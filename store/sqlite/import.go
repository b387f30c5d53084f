package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/store"
)

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
