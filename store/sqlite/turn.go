package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Renew implements [store.Feed].
//
// The transaction has the write lock from its start, so the view is the newest state. It does not
// compare the history: a view of another one is how an instance learns of it.
func (f *feed) Renew(ctx context.Context, turn *store.Turn) (*store.View, error) {
	view, err := result(ctx, f.store.writeUnchecked, "renew the lease", func(tx *sql.Tx) (*store.View, error) {
		if err := logInserted(ctx, tx); err != nil {
			return nil, err
		}
		view, err := readView(ctx, tx, turn)
		if err != nil || !view.Member {
			return view, err
		}
		if err := readChores(ctx, tx, turn, view); err != nil {
			return nil, err
		}
		return view, renew(ctx, tx, turn, view.InLog)
	})
	return f.seen(view, true, err)
}

// logInserted adds an entry to the change log if keys were inserted since the last renewal.
// The entry moves the place that instances compare with. They learn places at their turns, so the
// next renewal is early enough. It is one entry for any number of keys, so that an import does not
// fill the log.
func logInserted(ctx context.Context, tx *sql.Tx) error {
	n, err := changed(tx.ExecContext(ctx, "UPDATE key_count SET inserted = 0 WHERE inserted = 1"))
	if err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO change_log (op) VALUES ('i')")
	return err
}

// Pull implements [store.Feed].
//
// It only reads, and waits for no writer. Keys that were inserted since the last renewal have no
// entry yet, and nobody has to forget anything because of them.
func (f *feed) Pull(ctx context.Context, turn *store.Turn) (*store.View, error) {
	view, err := result(ctx, f.store.read, "read changes", func(tx *sql.Tx) (*store.View, error) { return readView(ctx, tx, turn) })
	return f.seen(view, false, err)
}

// seen notes the head of the log. Wait then waits for more, and reads compare with it. A view
// after an error is nil, and nothing is noted.
func (f *feed) seen(view *store.View, renewed bool, err error) (*store.View, error) {
	if err != nil {
		return nil, err
	}
	f.head = view.Head.Rev
	f.store.seen.Note(view, renewed)
	return view, nil
}

// renew writes the row of the member and the cuts. Applied never goes down. The heartbeat is
// random, so that [Store.Reap] finds whether the member has renewed.
func renew(ctx context.Context, tx *sql.Tx, turn *store.Turn, inLog bool) error {
	applied := int64(0) // a rev of another history means nothing here
	if inLog {
		applied = turn.Applied.Rev
	}
	_, err := tx.ExecContext(ctx, `
UPDATE member SET beat = random(), applied = max(applied, ?),
    seen_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER) WHERE id = ?`, applied, turn.Member.String())
	if err != nil {
		return err
	}
	for _, c := range turn.Cuts {
		// The change may have been pruned. Nothing is inserted then. WHERE also tells the parser
		// that ON belongs to the upsert (https://sqlite.org/lang_upsert.html section 2.2).
		_, err := tx.ExecContext(ctx, `
INSERT INTO change_cut (rev, member, requests) SELECT rev, ?, ? FROM change_log WHERE rev = ?
ON CONFLICT DO UPDATE SET requests = excluded.requests`, turn.Member.String(), c.Requests, c.Rev)
		if err != nil {
			return err
		}
	}
	return nil
}

// readChores reads what is left to do for any instance. A member that lives is silent for a
// quarter of its ttl at most. The clock may have been set back.
//
// A record counts as unsealed once it is a second old, or if it is from the future. Times are in
// microseconds: 300 times a ttl in milliseconds is three tenths of it. An index serves each of
// the questions but that about the members, who are few.
func readChores(ctx context.Context, tx *sql.Tx, turn *store.Turn, view *store.View) error {
	var longest int64
	err := tx.QueryRowContext(ctx, `
SELECT max(ttl_ms), EXISTS (
    SELECT 1 FROM audit_log WHERE chain IS NULL AND actor_type IN ('cli', 'sql')
        AND at NOT BETWEEN unixepoch('subsec') * 1000000 - 1000000 AND unixepoch('subsec') * 1000000
), EXISTS (SELECT 1 FROM system_keys WHERE ends_at < ?) OR EXISTS (SELECT 1 FROM system_keys WHERE `+retired+`) FROM member`, micros(turn.ExpiredBefore)).Scan(&longest, &view.Unsealed, &view.Expired)
	if err != nil {
		return err
	}
	view.LongestTTL = time.Duration(longest) * time.Millisecond
	view.Silent, err = collect(ctx, tx, func(row sqlstore.Row) (store.Member, error) { return sqlstore.ScanMember(row) },
		"SELECT "+sqlstore.MemberColumns+" FROM member m WHERE id <> ? AND abs(unixepoch('subsec') * 1000000 - seen_at) > ttl_ms * 300", turn.Member.String())
	return err
}

// readView reads the view of a turn. The changes are those behind the place of the turn, if that
// is in the log. A place that was pruned, or belongs to another history, has none.
func readView(ctx context.Context, tx *sql.Tx, turn *store.Turn) (*store.View, error) {
	view := &store.View{Origin: origin}
	err := tx.QueryRowContext(ctx, `
SELECT EXISTS (SELECT 1 FROM member WHERE id = ?), EXISTS (SELECT 1 FROM change_log WHERE rev = ? AND tag = ?)`,
		turn.Member.String(), turn.Applied.Rev, turn.Applied.Tag).Scan(&view.Member, &view.InLog)
	if err != nil {
		return nil, err
	}
	if view.Head, view.Watched, err = head(ctx, tx); err != nil || !view.InLog {
		return view, err
	}
	view.Changes, err = changes(ctx, tx, turn.Applied.Rev, turn.Limit)
	return view, err
}

// origin is the same for every file. If another file takes the place of the open one, that
// is an error: see [files].
const origin = "sqlite"

// logTriggers is how many triggers on system_keys take part in logging changes. They are
// system_keys_insert and system_keys_log_ delete, replace, update and heirs. If one is missing,
// an instance must not trust its caches; see [store.View.Watched].
const logTriggers = 5

// head returns the newest place in the log, and whether all changes get there. A row of the log
// is always there. Triggers of another program have other names, as a rule, and are not counted.
func head(ctx context.Context, tx *sql.Tx) (head store.Position, watched bool, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT rev, tag, ? = (
    SELECT count(*) FROM sqlite_schema
    WHERE type = 'trigger' AND tbl_name = 'system_keys'
        AND (name GLOB 'system_keys_log_*' OR name = 'system_keys_insert')
) FROM change_log ORDER BY rev DESC LIMIT 1`, logTriggers).Scan(&head.Rev, &head.Tag, &watched)
	return head, watched, err
}

// changes returns the entries after a rev, the oldest first, limit at most. Rev is the primary
// key, in the order of the commits.
func changes(ctx context.Context, tx *sql.Tx, after int64, limit int) ([]store.Change, error) {
	return collect(ctx, tx, scanChange, "SELECT rev, tag, op, key_id, at FROM change_log WHERE rev > ? ORDER BY rev LIMIT ?", after, limit)
}

// scanChange reads a row of rev, tag, op, key_id and at. An op of another length than one byte is
// an error. A letter that this program does not know is left to the caller.
func scanChange(row sqlstore.Row) (change store.Change, err error) {
	var op string
	var id sql.NullString
	var at int64
	if err := row.Scan(&change.Rev, &change.Tag, &op, &id, &at); err != nil {
		return change, err
	}
	if len(op) != 1 {
		return change, errors.New("column op: not a kind of change")
	}
	change.Kind, change.At = store.ChangeKind(op[0]), time.UnixMicro(at).UTC()
	if id.Valid {
		// Another program may have written a row with any text as its id. No key of ours
		// has such an id.
		change.Key, _ = store.ParseID(id.String)
	}
	return change, nil
}
