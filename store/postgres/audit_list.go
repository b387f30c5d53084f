package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Audit implements [store.AuditLog].
func (s *Store) Audit(ctx context.Context, query *store.AuditQuery) (_ *store.AuditPage, err error) {
	ctx, end := s.call(ctx, "audit", "list audit records")
	defer end(&err)
	if err := query.Check(); err != nil {
		return nil, err
	}
	page := &store.AuditPage{}
	if !query.Possible() {
		return page, ctx.Err()
	}
	list, count := auditStatements(query)
	var batch pgx.Batch
	batch.Queue(list.text, list.args...).Query(func(rows pgx.Rows) (err error) {
		page.Records, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.AuditRecord, error) { return sqlstore.ScanAudit(row) })
		return err
	})
	batch.Queue(count.text, count.args...).QueryRow(func(row pgx.Row) error { return row.Scan(&page.Total) })
	if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	page.Cut(query.Limit)
	return page, nil
}

// auditStatements are for the page, with one record more, and for its total. A
// filter by several events is a union of walks through an index, each of which
// stops at the limit.
func auditStatements(query *store.AuditQuery) (list, count statement) {
	whole := *query
	whole.Before = store.ID{}
	all := unionOf(&whole, "1", store.MaxAuditTotal+1, false)
	return unionOf(query, auditList, query.Limit+1, true), statement{"SELECT count(*) FROM (" + all.text + ") AS kept", all.args}
}

func unionOf(query *store.AuditQuery, columns string, limit int, ordered bool) statement {
	var s statement
	arg := func(value any) string {
		s.args = append(s.args, value)
		return fmt.Sprintf("$%d", len(s.args))
	}
	from, below := query.Range()
	where := []string{"id >= " + arg(uuid(from)), "id < " + arg(uuid(below))}
	if query.Key != (store.ID{}) {
		where = append(where, "key_id = "+arg(uuid(query.Key)))
	}
	if query.Label != "" {
		where = append(where, `lower(key_label COLLATE "C") = lower(`+arg(query.Label)+`::text COLLATE "C")`)
	}
	if query.Actor != "" {
		where = append(where, "actor = "+arg(query.Actor))
	}
	bound := " LIMIT " + arg(limit)
	if ordered {
		bound = " ORDER BY id DESC" + bound
	}
	branch := func(condition ...string) string {
		return "SELECT " + columns + " FROM sidecar.audit_log WHERE " + strings.Join(append(where, condition...), " AND ") + bound
	}
	branches := make([]string, 0, len(query.Events()))
	for _, event := range query.Events() {
		branches = append(branches, "("+branch("event = "+arg(string(event)))+")")
	}
	switch {
	case len(branches) == 0:
		s.text = branch()
	case ordered:
		s.text = "SELECT * FROM (" + strings.Join(branches, " UNION ALL ") + ") AS u" + bound
	default:
		s.text = strings.Join(branches, " UNION ALL ")
	}
	return s
}

// AuditLabel implements [store.AuditLog].
func (s *Store) AuditLabel(ctx context.Context, key store.ID) (label string, err error) {
	err = s.pool.QueryRow(ctx, "SELECT key_label FROM sidecar.audit_log "+
		"WHERE key_id = $1 AND event = 'api_key.revoked' ORDER BY id DESC LIMIT 1", uuid(key)).Scan(&label)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return label, explain("look up a label", err)
}
