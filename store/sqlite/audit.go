package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	codes "modernc.org/sqlite/lib"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// insertAudit takes a row of [sqlstore.Values.AuditRows].
const insertAudit = "INSERT INTO audit_log (" + sqlstore.AuditColumns + ") " +
	"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

// AppendAudit implements [store.AuditLog].
//
// The id of its newest record is the primary key of a row. If it is taken, the error is
// [store.ErrConflict]: the records of an earlier attempt are there.
func (s *Store) AppendAudit(ctx context.Context, chain store.ID, records []store.AuditRecord, sealer store.Sealer) (err error) {
	ctx, end := s.calls.Begin(ctx, "append_audit")
	defer end(&err)
	return s.write(ctx, "write audit records", func(tx *sql.Tx) error {
		return appendAudit(ctx, tx, chain, records, sealer)
	})
}

// record writes the records of a change of keys in its transaction. Without them a deletion
// leaves the records that the trigger makes.
func record(ctx context.Context, tx *sql.Tx, write *store.Write, keys ...*store.Key) error {
	return sqlstore.Record(write, keys, func(records []store.AuditRecord) error {
		return appendAudit(ctx, tx, store.SharedChain, records, write.Sealer)
	})
}

// errTakenPlace says that the chain has another record in a record's place.
var errTakenPlace = errors.New("the place in the chain is taken")

// appendAudit seals records in the transaction, unless the sealer is nil, and writes them.
func appendAudit(ctx context.Context, tx *sql.Tx, chain store.ID, records []store.AuditRecord, sealer store.Sealer) error {
	if sealer != nil {
		if err := sealNext(ctx, tx, chain, records, sealer); err != nil {
			return err
		}
	}
	insert, err := tx.PrepareContext(ctx, insertAudit)
	if err != nil {
		return err
	}
	defer func() { _ = insert.Close() }() // its error is that of the transaction
	for _, row := range values.AuditRows(records) {
		_, err := insert.ExecContext(ctx, row...)
		if resultCode(err) == codes.SQLITE_CONSTRAINT_UNIQUE {
			return errTakenPlace // not a conflict: that would be the same record
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sealNext gives the records their places behind the head of the chain. Nobody else moves the
// head meanwhile, since the transaction has the write lock. A chain that is not there yet begins
// with these records.
func sealNext(ctx context.Context, tx *sql.Tx, chain store.ID, records []store.AuditRecord, sealer store.Sealer) error {
	var head store.AuditMark
	// The head, or the last record that is there if somebody set the head back.
	err := tx.QueryRowContext(ctx, "SELECT seq, mac FROM audit_chain WHERE id = ?1 UNION ALL SELECT * FROM "+
		"(SELECT seq, mac FROM audit_log WHERE chain = ?1 ORDER BY seq DESC LIMIT 1) ORDER BY seq DESC LIMIT 1", chain.String()).
		Scan(&head.Seq, &head.MAC)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	head = sealer.Seal(chain, head, records)
	_, err = tx.ExecContext(ctx, "INSERT INTO audit_chain (id, seq, mac, signature) VALUES (?, ?, ?, ?) "+
		"ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, mac = excluded.mac, signature = excluded.signature",
		chain.String(), head.Seq, head.MAC, head.Signature)
	return err
}

// auditRecords returns the records of the rows that a query selects, one row behind the
// other.
func auditRecords(ctx context.Context, tx *sql.Tx, statement string, args ...any) ([]store.AuditRecord, error) {
	rows, err := collect(ctx, tx, sqlstore.ScanAudit, statement, args...)
	return slices.Concat(rows...), err
}

// SealAudit implements [store.AuditLog].
//
// It takes the records of the command line and of the trigger. They get their places in the order
// of their ids, which is that of time. The index audit_log_unsealed finds them.
func (s *Store) SealAudit(ctx context.Context, limit int, sealer store.Sealer) (sealed int, err error) {
	const what = "seal audit records"
	const waiting = "SELECT " + sqlstore.AuditColumns + " FROM audit_log " +
		"WHERE chain IS NULL AND actor_type IN ('cli', 'sql') ORDER BY id LIMIT ?"
	// Mostly there is nothing to do, and a look costs no writer's turn.
	var records []store.AuditRecord
	look := func(tx *sql.Tx) (err error) {
		records, err = auditRecords(ctx, tx, waiting, limit)
		return err
	}
	if err := s.read(ctx, what, look); err != nil || len(records) == 0 {
		return 0, err
	}
	err = s.write(ctx, what, func(tx *sql.Tx) error {
		if err := look(tx); err != nil || len(records) == 0 {
			return err
		}
		if err := sealNext(ctx, tx, store.SharedChain, records, sealer); err != nil {
			return err
		}
		for i := range records {
			r := &records[i]
			if _, err := tx.ExecContext(ctx, "UPDATE audit_log SET chain = ?, seq = ?, mac = ? WHERE id = ?",
				r.Link.Chain.String(), r.Link.Seq, r.Link.MAC, r.ID.String()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(records), nil
}

// values writes ids as text, and times in microseconds since the Unix epoch.
var values = sqlstore.Values{
	ID:   func(id store.ID) any { return id.String() },
	Time: func(at time.Time) any { return at.UnixMicro() },
}
