package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Audit implements [store.AuditLog]. The page and its total are of one state.
func (s *Store) Audit(ctx context.Context, query *store.AuditQuery) (_ *store.AuditPage, err error) {
	ctx, end := s.calls.Begin(ctx, "audit")
	defer end(&err)
	const what = "list audit records"
	if err := query.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return result(ctx, s.read, what, func(tx *sql.Tx) (*store.AuditPage, error) {
		if !query.Possible() {
			return &store.AuditPage{}, nil
		}
		return sqlstore.AuditPage(query, &sqlstore.AuditReader{
			Rows: func(span *sqlstore.AuditSpan, want int) ([][]store.AuditRecord, error) {
				s := auditRows(query, span, want)
				return collect(ctx, tx, sqlstore.ScanAudit, s.text, s.args...)
			},
			Count: func(span *sqlstore.AuditSpan) (total int, err error) {
				s := auditCount(query, span)
				err = tx.QueryRowContext(ctx, s.text, s.args...).Scan(&total)
				return total, err
			},
		})
	})
}

// auditRows finds the rows by the columns that are in front, and only then reads them.
func auditRows(query *store.AuditQuery, span *sqlstore.AuditSpan, want int) statement {
	found := auditUnion(query, span, want, true)
	return statement{
		"SELECT " + sqlstore.AuditColumns + " FROM audit_log WHERE id IN (" +
			"SELECT id FROM (SELECT id, sum(records) OVER (ORDER BY id DESC) - records AS ahead FROM (" + found.text + ")) WHERE ahead < ?)",
		append(found.args, want),
	}
}

// auditCount counts the records of the rows that a query keeps. The limit bounds the rows of each
// walk, so the count is exact up to [store.MaxAuditTotal].
func auditCount(query *store.AuditQuery, span *sqlstore.AuditSpan) statement {
	all := auditUnion(query, span, store.MaxAuditTotal+1, false)
	return statement{"SELECT coalesce(sum(records), 0) FROM (" + all.text + ")", all.args}
}

// auditIndex returns a clause with the index by which a query is looked up, the best for its
// filters. The planner does not know how many records a filter keeps. A query with no filter but
// that of the time has no clause: the primary key has the order of the list.
func auditIndex(query *store.AuditQuery) string {
	switch {
	case query.Key != store.ID{}:
		return " INDEXED BY audit_log_by_key"
	case query.Actor != "":
		return " INDEXED BY audit_log_by_actor"
	case query.Label != "":
		return " INDEXED BY audit_log_by_label"
	case query.Event != "":
		return " INDEXED BY audit_log_by_event"
	}
	return ""
}

// auditUnion is a walk through an index, or a union of several, each of which stops at the
// limit.
func auditUnion(query *store.AuditQuery, span *sqlstore.AuditSpan, limit int, ordered bool) statement {
	// First_id is NULL in a row of one record, whose only id is then the oldest too.
	where := []string{"id >= ?", "id < ?", "coalesce(first_id, id) >= ?", "coalesce(first_id, id) < ?"}
	args := []any{span.NewestFrom.String(), span.NewestBelow.String(), span.OldestFrom.String(), span.OldestBelow.String()}
	keep := func(condition string, value any) {
		where, args = append(where, condition), append(args, value)
	}
	if query.Key != (store.ID{}) {
		keep("key_id = ?", query.Key.String())
	}
	if query.Label != "" {
		// Both sides fold the case of ASCII letters alone.
		keep("folded = lower(?)", query.Label)
	}
	if query.Actor != "" {
		keep("actor = ?", query.Actor)
	}
	order := ""
	if ordered {
		order = " ORDER BY id DESC"
	}
	branch := "SELECT id, records FROM audit_log" + auditIndex(query) + " WHERE " + strings.Join(where, " AND ")
	events := query.Events()
	if events == nil {
		return statement{branch + order + " LIMIT ?", append(args, limit)}
	}
	var all statement
	var branches []string
	for _, event := range events {
		branches = append(branches, "SELECT * FROM ("+branch+" AND event = ?"+order+" LIMIT ?)")
		all.args = append(append(all.args, args...), string(event), limit)
	}
	all.text = strings.Join(branches, " UNION ALL ")
	if ordered {
		all.text = "SELECT * FROM (" + all.text + ")" + order + " LIMIT ?"
		all.args = append(all.args, limit)
	}
	return all
}

// AuditLabel implements [store.AuditLog]. Without a row the newest deletion counts: a key may have
// been inserted again under the same id.
func (s *Store) AuditLabel(ctx context.Context, key store.ID) (string, error) {
	return result(ctx, s.read, "look up a label", func(tx *sql.Tx) (label string, err error) {
		err = tx.QueryRowContext(ctx, "SELECT coalesce((SELECT label FROM system_keys WHERE id = ?1), "+
			"(SELECT key_label FROM audit_log WHERE key_id = ?1 AND event IN ('api_key.revoked', 'api_key.expired') "+
			"ORDER BY id DESC LIMIT 1), '')", key.String()).Scan(&label)
		return label, err
	})
}
