package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// auditList are the columns of a row, as [sqlstore.ScanAudit] reads them. The cast gives the
// details as they were written: the type json keeps its text
// (https://www.postgresql.org/docs/current/datatype-json.html).
var auditList = strings.Replace(sqlstore.AuditColumns, "details", "details::text", 1)

// auditColumns are those that COPY writes.
var auditColumns = strings.Split(sqlstore.AuditColumns, ", ")

// AppendAudit implements [store.AuditLog].
//
// It locks the chain until the commit, so instances that write to one chain take turns. The error
// is [store.ErrConflict] if a row with the id is there: an earlier attempt has written it.
func (s *Store) AppendAudit(ctx context.Context, chain store.ID, records []store.AuditRecord, sealer store.Sealer) (err error) {
	ctx, end := s.call(ctx, "append_audit", "write audit records")
	defer end(&err)
	err = s.transact(ctx, func(tx *database) error { return appendAudit(ctx, tx, chain, records, sealer) })
	// Not by their place in the chain: that would be somebody else's record.
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.ConstraintName == "audit_log_pkey" {
		err = store.ErrConflict
	}
	return err
}

// record writes the records of a change of keys in its transaction. The chain of records is
// locked last, when nothing but the commit is to come. Without records the trigger writes those
// of a deletion, as of one by plain SQL.
func record(ctx context.Context, tx *database, write *store.Write, keys ...*store.Key) error {
	return sqlstore.Record(write, keys, func(records []store.AuditRecord) error {
		return appendAudit(ctx, tx, store.SharedChain, records, write.Sealer)
	})
}

// appendAudit gives records their places, unless the sealer is nil, and writes them. COPY takes any
// number of rows in one command, and has no limit of parameters.
func appendAudit(ctx context.Context, tx *database, chain store.ID, records []store.AuditRecord, sealer store.Sealer) error {
	if sealer != nil {
		if err := sealNext(ctx, tx, chain, records, sealer); err != nil {
			return err
		}
	}
	_, err := tx.CopyFrom(ctx, tx.table("audit_log"), auditColumns, pgx.CopyFromRows(values.AuditRows(records)))
	return err
}

// sealNext gives the records their places behind the head of the chain, whose row it locks until
// the transaction ends. The head is written in the transaction of the records, so the chain has
// neither a gap nor a fork.
func sealNext(ctx context.Context, tx *database, chain store.ID, records []store.AuditRecord, sealer store.Sealer) error {
	head, err := lockHead(ctx, tx, chain)
	if err != nil {
		return err
	}
	head = sealer.Seal(chain, head, records)
	_, err = tx.Exec(ctx, "UPDATE {own}.audit_chain SET seq = $2, mac = $3, signature = $4 WHERE id = $1",
		uuid(chain), head.Seq, head.MAC, head.Signature)
	return err
}

// lockHead locks the row of the chain until the transaction ends, and returns where the chain ends.
// If somebody has set the row back, the chain still ends with the last record that is there.
func lockHead(ctx context.Context, tx *database, chain store.ID) (head store.AuditMark, err error) {
	// If there is no row, it is inserted, and the second round locks it. If another instance
	// inserts it at the same time, the insert waits for that and then does nothing, and the second
	// round locks the other's row.
	const lock = "SELECT seq, mac, signature FROM {own}.audit_chain WHERE id = $1 FOR UPDATE"
	for range 2 {
		err = tx.QueryRow(ctx, lock, uuid(chain)).Scan(&head.Seq, &head.MAC, &head.Signature)
		if !errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if _, err := tx.Exec(ctx, "INSERT INTO {own}.audit_chain (id) VALUES ($1) ON CONFLICT DO NOTHING", uuid(chain)); err != nil {
			return head, err
		}
	}
	if err != nil {
		return head, err
	}
	// A statement of its own: the one that waited for the lock sees the state from
	// before it.
	var last store.AuditMark
	err = tx.QueryRow(ctx, "SELECT seq, mac FROM {own}.audit_log WHERE chain = $1 ORDER BY seq DESC LIMIT 1", uuid(chain)).
		Scan(&last.Seq, &last.MAC)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	if last.Seq > head.Seq {
		head = last
	}
	return head, err
}

// auditRecords returns the records of the rows that a query selects, one row behind the other.
// The records of a row are in their order, and the rows in that of the statement.
func auditRecords(ctx context.Context, db *database, statement string, args ...any) ([]store.AuditRecord, error) {
	rows, err := collect(ctx, db, sqlstore.ScanAudit, statement, args...)
	return slices.Concat(rows...), err
}

// SealAudit implements [store.AuditLog]. It may run on all instances at once: each takes other
// records.
func (s *Store) SealAudit(ctx context.Context, limit int, sealer store.Sealer) (int, error) {
	sealed, err := sqlstore.Result(ctx, s.transact, func(tx *database) (int, error) { return sealWaiting(ctx, tx, limit, sealer) })
	return sealed, explain("seal audit records", err)
}

// sealWaiting takes the records that no other instance is about to seal. The index
// audit_log_unsealed has only records without a chain. The updates go in one batch, so they take
// one round trip.
func sealWaiting(ctx context.Context, tx *database, limit int, sealer store.Sealer) (int, error) {
	records, err := auditRecords(ctx, tx, "SELECT "+auditList+" FROM {own}.audit_log "+
		"WHERE chain IS NULL AND actor_type IN ('cli', 'sql') ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED", limit)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	if err := sealNext(ctx, tx, store.SharedChain, records, sealer); err != nil {
		return 0, err
	}
	var batch pgx.Batch
	for i := range records {
		r := &records[i]
		batch.Queue(tx.sql("UPDATE {own}.audit_log SET chain = $2, seq = $3, mac = $4 WHERE id = $1"),
			uuid(r.ID), uuid(r.Link.Chain), r.Link.Seq, r.Link.MAC)
	}
	return len(records), tx.SendBatch(ctx, &batch).Close()
}

// values writes ids and times in the types of pgx.
var values = sqlstore.Values{
	ID:   func(id store.ID) any { return uuid(id) },
	Time: func(at time.Time) any { return at },
}
