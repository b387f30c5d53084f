package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// AuditChains implements [store.AuditLog].
func (s *Store) AuditChains(ctx context.Context) ([]store.AuditChain, error) {
	return result(ctx, s.read, "read the chains of audit records", func(tx *sql.Tx) ([]store.AuditChain, error) {
		return auditChains(ctx, tx)
	})
}

// auditChains returns every chain, in the order of their ids.
func auditChains(ctx context.Context, tx *sql.Tx) ([]store.AuditChain, error) {
	return collect(ctx, tx, sqlstore.ScanChain, "SELECT "+sqlstore.ChainColumns+" FROM audit_chain ORDER BY id")
}

// AuditLinks implements [store.AuditLog].
//
// A row may hold up to [sqlstore.RowRecords] records, and its seq is that of the newest. So the
// row with the first record after seq is among those whose seq is higher. The inner queries look
// at limit+1 of these at most, and sum up how many records come before each. The rows are read as
// a whole only up to where there are enough records.
func (s *Store) AuditLinks(ctx context.Context, chain store.ID, seq int64, limit int) ([]store.AuditRecord, error) {
	records, err := result(ctx, s.read, "read a chain of audit records", func(tx *sql.Tx) ([]store.AuditRecord, error) {
		return auditRecords(ctx, tx, "SELECT "+sqlstore.AuditColumns+" FROM audit_log WHERE id IN ("+
			"SELECT id FROM (SELECT id, sum(records) OVER (ORDER BY seq) - records AS ahead FROM ("+
			"SELECT id, seq, records FROM audit_log WHERE chain = ? AND seq > ? ORDER BY seq LIMIT ?)) WHERE ahead < ?) ORDER BY seq",
			chain.String(), seq, limit+1, limit+sqlstore.RowRecords)
	})
	return sqlstore.Following(records, seq, limit), err
}

// AuditUnsealed implements [store.AuditLog]. The partial index audit_log_unsealed has these rows
// alone.
func (s *Store) AuditUnsealed(ctx context.Context) (all, foreign int, err error) {
	err = s.read(ctx, "count audit records", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE actor_type NOT IN ('cli', 'sql')) "+
			"FROM audit_log WHERE chain IS NULL").Scan(&all, &foreign)
	})
	return all, foreign, err
}

// PruneAudit implements [store.AuditLog].
//
// Each chain is a transaction of its own, and so are the records without one.
func (s *Store) PruneAudit(ctx context.Context, before time.Time, limit int, sealer store.Sealer) (int, error) {
	const what = "prune the audit log"
	chains, err := s.AuditChains(ctx)
	if err != nil {
		return 0, err
	}
	chain := func(chain *store.AuditChain, floor store.ID) (int, error) {
		return result(ctx, s.write, what, func(tx *sql.Tx) (int, error) { return pruneChain(ctx, tx, chain, floor, limit, sealer) })
	}
	unsealed := func(floor store.ID) (int, error) {
		n, err := s.exec(ctx, what, "DELETE FROM audit_log WHERE id IN ("+
			"SELECT id FROM audit_log WHERE chain IS NULL AND id < ? ORDER BY id LIMIT ?)", floor.String(), limit)
		return int(n), err
	}
	return sqlstore.PruneAudit(chains, before, chain, unsealed)
}

// pruneChain removes the oldest records of one chain, and moves its anchor to the newest of them.
// Both are one transaction, so no state of the database has a gap between the anchor and the first
// record. Chain is as it was read before. If another process has pruned since, its rows are gone,
// and this goes on behind them.
func pruneChain(
	ctx context.Context, tx *sql.Tx, chain *store.AuditChain, floor store.ID, limit int, sealer store.Sealer,
) (int, error) {
	rows, err := collect(ctx, tx, sqlstore.ScanEnd, "SELECT "+sqlstore.EndColumns+
		" FROM audit_log WHERE chain = ? AND seq > ? ORDER BY seq LIMIT ?", chain.ID.String(), chain.Anchor.Seq, limit)
	if err != nil {
		return 0, err
	}
	n, last := sqlstore.Prunable(rows, floor, limit)
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
