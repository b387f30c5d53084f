package sqlite

import (
	"context"
	"database/sql"
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
