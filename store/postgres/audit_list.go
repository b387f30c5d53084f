package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Audit implements [store.AuditLog].
//
// The page and its total come from several statements. A record that is written in between may be
// in the total and not on the page.
func (s *Store) Audit(ctx context.Context, query *store.AuditQuery) (_ *store.AuditPage, err error) {
	ctx, end := s.call(ctx, "audit", "list audit records")
	defer end(&err)
	if err := query.Check(); err != nil {
		return nil, err
	}
	if !query.Possible() {
		return &store.AuditPage{}, ctx.Err()
	}
	db, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	return sqlstore.AuditPage(query, &sqlstore.AuditReader{
		Rows: func(span *sqlstore.AuditSpan, want int) ([][]store.AuditRecord, error) {
			s := auditRows(query, span, want)
			return collect(ctx, db, sqlstore.ScanAudit, s.text, s.args...)
		},
		Count: func(span *sqlstore.AuditSpan) (total int, err error) {
			s := auditCount(query, span)
			err = db.QueryRow(ctx, s.text, s.args...).Scan(&total)
			return total, err
		},
	})
}

// auditRows finds the rows by their ids, and only then reads all their columns. Ahead is how many
// records come before a row, so the rows end where there are enough.
func auditRows(query *store.AuditQuery, span *sqlstore.AuditSpan, want int) statement {
	found := unionOf(query, span, want, true)
	return statement{
		"SELECT " + auditList + " FROM {own}.audit_log WHERE id IN (" +
			"SELECT id FROM (SELECT id, sum(records) OVER (ORDER BY id DESC) - records AS ahead FROM (" + found.text + ") AS found) AS summed " +
			fmt.Sprintf("WHERE ahead < $%d)", len(found.args)+1),
		append(found.args, want),
	}
}

// auditCount counts the records of the rows that a query keeps. Each walk stops after one row more
// than [store.MaxAuditTotal], so the count is exact up to that.
func auditCount(query *store.AuditQuery, span *sqlstore.AuditSpan) statement {
	all := unionOf(query, span, store.MaxAuditTotal+1, false)
	return statement{"SELECT coalesce(sum(records), 0) FROM (" + all.text + ") AS kept", all.args}
}

// unionOf is a walk through an index, or a union of several, each of which stops at the limit.
// The indexes of the filters have the event before the id. So with the event given, each walk is
// in the order of the ids, and the planner needs no sort.
func unionOf(query *store.AuditQuery, span *sqlstore.AuditSpan, limit int, ordered bool) statement {
	var s statement
	arg := func(value any) string {
		s.args = append(s.args, value)
		return fmt.Sprintf("$%d", len(s.args))
	}
	// First_id is NULL in a row of one record, whose only id is then the oldest too.
	where := []string{
		"id >= " + arg(uuid(span.NewestFrom)), "id < " + arg(uuid(span.NewestBelow)),
		"coalesce(first_id, id) >= " + arg(uuid(span.OldestFrom)), "coalesce(first_id, id) < " + arg(uuid(span.OldestBelow)),
	}
	if query.Key != (store.ID{}) {
		where = append(where, "key_id = "+arg(uuid(query.Key)))
	}
	if query.Label != "" {
		// The expression is that of the index audit_log_by_label. It folds the case of ASCII alone.
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
		return "SELECT id, records FROM {own}.audit_log WHERE " + strings.Join(append(where, condition...), " AND ") + bound
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
//
// Without a row the newest deletion counts. LATERAL looks for the newest record of each event by
// itself, as the index by key has them.
func (s *Store) AuditLabel(ctx context.Context, key store.ID) (label string, err error) {
	const what = "look up a label"
	db, err := s.database(ctx)
	if err != nil {
		return "", explain(what, err)
	}
	err = db.QueryRow(ctx, "SELECT coalesce((SELECT label FROM {keys} WHERE id = $1), "+
		"(SELECT key_label FROM (VALUES ('api_key.revoked'), ('api_key.expired')) AS ends (event) CROSS JOIN LATERAL "+
		"(SELECT id, key_label FROM {own}.audit_log a WHERE key_id = $1 AND a.event = ends.event ORDER BY id DESC LIMIT 1) AS newest "+
		"ORDER BY id DESC LIMIT 1), '')", uuid(key)).Scan(&label)
	return label, explain(what, err)
}
