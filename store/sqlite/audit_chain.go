package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// AuditChains implements [store.AuditLog].
func (s *Store) AuditChains(ctx context.Context) (chains []store.AuditChain, err error) {
	err = s.read(ctx, "read the chains of audit records", func(tx *sql.Tx) error {
		chains, err = auditChains(ctx, tx)
		return err
	})
	return chains, err
}

func auditChains(ctx context.Context, tx *sql.Tx) ([]store.AuditChain, error) {
	rows, err := tx.QueryContext(ctx,
		"SELECT id, seq, mac, signature, anchor_seq, anchor_mac, anchor_signature FROM audit_chain ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is Err's
	var chains []store.AuditChain
	for rows.Next() {
		var chain store.AuditChain
		var id string
		head, anchor := &chain.Head, &chain.Anchor
		err := rows.Scan(&id, &head.Seq, &head.MAC, &head.Signature, &anchor.Seq, &anchor.MAC, &anchor.Signature)
		if err == nil {
			chain.ID, err = store.ParseID(id)
		}
		if err != nil {
			return nil, err
		}
		chains = append(chains, chain)
	}
	return chains, rows.Err()
}

// AuditLinks implements [store.AuditLog].
func (s *Store) AuditLinks(ctx context.Context, chain store.ID, seq int64, limit int) (records []store.AuditRecord, err error) {
	err = s.read(ctx, "read a chain of audit records", func(tx *sql.Tx) error {
		records, err = auditLinks(ctx, tx, chain, seq, limit)
		return err
	})
	return records, err
}

func auditLinks(ctx context.Context, tx *sql.Tx, chain store.ID, seq int64, limit int) ([]store.AuditRecord, error) {
	return auditRecords(tx.QueryContext(ctx,
		"SELECT "+auditColumns+" FROM audit_log WHERE chain = ? AND seq > ? ORDER BY seq LIMIT ?", chain.String(), seq, limit))
}

// AuditUnsealed implements [store.AuditLog].
func (s *Store) AuditUnsealed(ctx context.Context) (all, foreign int, err error) {
	err = s.read(ctx, "count audit records", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE actor_type NOT IN ('cli', 'sql')) "+
			"FROM audit_log WHERE chain IS NULL").Scan(&all, &foreign)
	})
	return all, foreign, err
}

// PruneAudit implements [store.AuditLog].
func (s *Store) PruneAudit(ctx context.Context, before time.Time, limit int, sealer store.Sealer) (pruned int, err error) {
	const what = "prune the audit log"
	chains, err := s.AuditChains(ctx)
	if err != nil {
		return 0, err
	}
	floor := store.AuditFloor(before)
	for _, chain := range chains {
		if chain.Anchor.Seq >= chain.Head.Seq {
			continue // it has no records
		}
		// One transaction each: the writer has others to serve.
		err := s.write(ctx, what, func(tx *sql.Tx) error {
			n, err := pruneChain(ctx, tx, &chain, floor, limit, sealer)
			pruned += n
			return err
		})
		if err != nil {
			return pruned, err
		}
	}
	err = s.write(ctx, what, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "DELETE FROM audit_log WHERE id IN ("+
			"SELECT id FROM audit_log WHERE chain IS NULL AND id < ? ORDER BY id LIMIT ?)", floor.String(), limit)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		pruned += int(n)
		return err
	})
	return pruned, err
}

// pruneChain removes the records at the beginning of a chain that are from before
// the floor, up to the first that is not.
func pruneChain(
	ctx context.Context, tx *sql.Tx, chain *store.AuditChain, floor store.ID, limit int, sealer store.Sealer,
) (int, error) {
	records, err := auditLinks(ctx, tx, chain.ID, chain.Anchor.Seq, limit)
	if err != nil {
		return 0, err
	}
	n, last := 0, store.AuditLink{}
	for i := range records {
		if bytes.Compare(records[i].ID[:], floor[:]) >= 0 {
			break
		}
		n, last = n+1, records[i].Link
	}
	if n == 0 {
		return 0, nil
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM audit_log WHERE chain = ? AND seq <= ?", chain.ID.String(), last.Seq); err != nil {
		return 0, err
	}
	anchor := sealer.Anchor(last)
	_, err = tx.ExecContext(ctx, "UPDATE audit_chain SET anchor_seq = ?, anchor_mac = ?, anchor_signature = ? WHERE id = ?",
		anchor.Seq, anchor.MAC, anchor.Signature, chain.ID.String())
	return n, err
}
