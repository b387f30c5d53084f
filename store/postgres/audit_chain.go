package postgres

import (
	"context"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// AuditChains implements [store.AuditLog].
func (s *Store) AuditChains(ctx context.Context) ([]store.AuditChain, error) {
	const what = "read the chains of audit records"
	db, err := s.database(ctx)
	if err != nil {
		return nil, explain(what, err)
	}
	chains, err := auditChains(ctx, db)
	return chains, explain(what, err)
}

// auditChains returns every chain, in the order of their ids.
func auditChains(ctx context.Context, db *database) ([]store.AuditChain, error) {
	return collect(ctx, db, sqlstore.ScanChain, "SELECT "+sqlstore.ChainColumns+" FROM {own}.audit_chain ORDER BY id")
}

// auditLinks finds the rows behind a seq, and only then reads all their columns. A row holds up to
// [sqlstore.RowRecords] records, and its seq is that of the newest. Ahead is how many records of
// these rows come before a row, so the rows end where there are enough. The arguments are the
// chain, the seq, how many rows to look at, and how many records are enough.
var auditLinks = "SELECT " + auditList + " FROM {own}.audit_log WHERE id IN (" +
	"SELECT id FROM (SELECT id, sum(records) OVER (ORDER BY seq) - records AS ahead FROM (" +
	"SELECT id, seq, records FROM {own}.audit_log WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3" +
	") AS next) AS summed WHERE ahead < $4) ORDER BY seq"

// AuditLinks implements [store.AuditLog].
//
// The first row may have records up to seq as well, so up to RowRecords more are read than wanted.
func (s *Store) AuditLinks(ctx context.Context, chain store.ID, seq int64, limit int) ([]store.AuditRecord, error) {
	const what = "read a chain of audit records"
	db, err := s.database(ctx)
	if err != nil {
		return nil, explain(what, err)
	}
	records, err := auditRecords(ctx, db, auditLinks, uuid(chain), seq, limit+1, limit+sqlstore.RowRecords)
	return sqlstore.Following(records, seq, limit), explain(what, err)
}

// AuditUnsealed implements [store.AuditLog]. The partial index audit_log_unsealed has these rows
// alone.
func (s *Store) AuditUnsealed(ctx context.Context) (all, foreign int, err error) {
	const what = "count audit records"
	db, err := s.database(ctx)
	if err != nil {
		return 0, 0, explain(what, err)
	}
	err = db.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE actor_type NOT IN ('cli', 'sql')) "+
		"FROM {own}.audit_log WHERE chain IS NULL").Scan(&all, &foreign)
	return all, foreign, explain(what, err)
}

// PruneAudit implements [store.AuditLog]. Without anything to remove it is one statement,
// however many chains there are. The primary key answers that question, since ids begin with the
// time.
func (s *Store) PruneAudit(ctx context.Context, before time.Time, limit int, sealer store.Sealer) (int, error) {
	const what = "prune the audit log"
	db, err := s.database(ctx)
	if err != nil {
		return 0, explain(what, err)
	}
	var old bool
	err = db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM {own}.audit_log WHERE id < $1)", uuid(store.AuditFloor(before))).Scan(&old)
	if err != nil || !old {
		return 0, explain(what, err)
	}
	chains, err := auditChains(ctx, db)
	if err != nil {
		return 0, explain(what, err)
	}
	chain := func(chain *store.AuditChain, floor store.ID) (int, error) {
		return sqlstore.Result(ctx, s.transact, func(tx *database) (int, error) { return pruneChain(ctx, tx, chain.ID, floor, limit, sealer) })
	}
	unsealed := func(floor store.ID) (int, error) {
		tag, err := db.Exec(ctx, "DELETE FROM {own}.audit_log WHERE id IN ("+
			"SELECT id FROM {own}.audit_log WHERE chain IS NULL AND id < $1 ORDER BY id LIMIT $2)", uuid(floor), limit)
		return int(tag.RowsAffected()), err
	}
	pruned, err := sqlstore.PruneAudit(chains, before, chain, unsealed)
	return pruned, explain(what, err)
}

// pruneChain removes the oldest records of one chain, and moves its anchor to the newest of
// them. The lock of the chain makes pruning instances take turns. The anchor is read after that,
// so each one begins where the one before has ended.
func pruneChain(ctx context.Context, tx *database, chain, floor store.ID, limit int, sealer store.Sealer) (int, error) {
	if _, err := lockHead(ctx, tx, chain); err != nil {
		return 0, err
	}
	rows, err := collect(ctx, tx, sqlstore.ScanEnd, "SELECT "+sqlstore.EndColumns+" FROM {own}.audit_log "+
		"WHERE chain = $1 AND seq > (SELECT anchor_seq FROM {own}.audit_chain WHERE id = $1) ORDER BY seq LIMIT $2", uuid(chain), limit)
	if err != nil {
		return 0, err
	}
	n, last := sqlstore.Prunable(rows, floor, limit)
	if n == 0 {
		return 0, nil
	}
	if _, err := tx.Exec(ctx, "DELETE FROM {own}.audit_log WHERE chain = $1 AND seq <= $2", uuid(chain), last.Seq); err != nil {
		return 0, err
	}
	anchor := sealer.Anchor(last)
	_, err = tx.Exec(ctx, "UPDATE {own}.audit_chain SET anchor_seq = $2, anchor_mac = $3, anchor_signature = $4 WHERE id = $1",
		uuid(chain), anchor.Seq, anchor.MAC, anchor.Signature)
	return n, err
}
