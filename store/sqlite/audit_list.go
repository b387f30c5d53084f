package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Audit implements [store.AuditLog].
func (s *Store) Audit(ctx context.Context, query *store.AuditQuery) (_ *store.AuditPage, err error) {
	ctx, end := s.calls.Begin(ctx, "audit")
	defer end(&err)
	const what = "list audit records"
	if err := query.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	page := &store.AuditPage{}
	err = s.read(ctx, what, func(tx *sql.Tx) (err error) {
		if !query.Possible() {
			return nil
		}
		list := auditUnion(query, sqlstore.AuditColumns, query.Limit+1, true)
		if page.Records, err = collect(ctx, tx, sqlstore.ScanAudit, list.text, list.args...); err != nil {
			return err
		}
		whole := *query
		whole.Before = store.ID{}
		all := auditUnion(&whole, "1", store.MaxAuditTotal+1, false)
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM ("+all.text+")", all.args...).Scan(&page.Total)
	})
	if err != nil {
		return nil, err
	}
	page.Cut(query.Limit)
	return page, nil
}

// auditIndexes are the indexes by which a filter is looked up, the best first.
// The planner does not know how many records a filter keeps.
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

// auditUnion is a walk through an index, or a union of several, each of which
// stops at the limit.
func auditUnion(query *store.AuditQuery, columns string, limit int, ordered bool) statement {
	from, below := query.Range()
	where, args := []string{"id >= ?", "id < ?"}, []any{from.String(), below.String()}
	keep := func(condition string, value any) {
		where, args = append(where, condition), append(args, value)
	}
	if query.Key != (store.ID{}) {
		keep("key_id = ?", query.Key.String())
	}
	if query.Label != "" {
		keep("folded = lower(?)", query.Label)
	}
	if query.Actor != "" {
		keep("actor = ?", query.Actor)
	}
	order := ""
	if ordered {
		order = " ORDER BY id DESC"
	}
	branch := "SELECT " + columns + " FROM audit_log" + auditIndex(query) + " WHERE " + strings.Join(where, " AND ")
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

// AuditLabel implements [store.AuditLog].
func (s *Store) AuditLabel(ctx context.Context, key store.ID) (string, error) {
	return result(ctx, s.read, "look up a label", func(tx *sql.Tx) (label string, err error) {
		err = tx.QueryRowContext(ctx, "SELECT key_label FROM audit_log WHERE key_id = ? AND event = 'api_key.revoked' "+
			"ORDER BY id DESC LIMIT 1", key.String()).Scan(&label)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return label, err
	})
}
