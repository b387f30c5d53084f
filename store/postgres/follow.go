package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// following is NULL if no table of another service is followed. Otherwise it says whether all
// changes of that table get here. A trigger counts only if it fires always and has the xmin of
// the transaction that made all of them. To disable one gives its row in pg_trigger another xmin,
// and to enable it again does not bring the first one back: what was changed meanwhile has not
// been carried over.
const following = `(
    SELECT f.trusted AND (
        SELECT count(*) = 4 FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.pronamespace = to_regnamespace('{own}') AND p.proname = 'carry_over'
            AND n.nspname = f.table_schema AND c.relname = f.table_name AND t.tgenabled = 'A' AND t.xmin = f.made_by
    ) FROM {own}.follow f
)`

// FollowedTable returns the table that is followed, or nil. Carried is whether all its changes
// get here, and Unfit how many of its rows do not fit.
func (s *Store) FollowedTable(ctx context.Context) (*movein.Followed, error) {
	const what = "look at the table that is followed"
	db, err := s.database(ctx)
	if err != nil {
		return nil, explain(what, err)
	}
	var f movein.Followed
	name := make(pgx.Identifier, 2)
	err = db.QueryRow(ctx, "SELECT table_schema, table_name, since, "+following+", (SELECT count(*) FROM {own}.follow_unfit) FROM {own}.follow").
		Scan(&name[0], &name[1], &f.Since, &f.Carried, &f.Unfit)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	f.Table, f.Since = name.Sanitize(), f.Since.UTC()
	return &f, explain(what, err)
}

// followable returns an error if the table cannot be followed.
//
// The store must be in the same database, since the trigger writes to the table of keys. Layout is
// that of the other table.
func followable(ctx context.Context, tx pgx.Tx, table uint32, layout movein.Layout, target store.Store) error {
	s, ok := target.(*Store)
	if !ok {
		return errors.New("only a store in PostgreSQL can follow a table, in the same database")
	}
	keys, err := s.sharedWith(ctx, tx)
	if err != nil {
		return err
	}
	if keys == 0 {
		return fmt.Errorf("%s cannot be followed, since it is in another database than the store: "+
			"give the store a schema of its own in that database (store postgres <dsn> { schema <name> })", layout.Table)
	}
	// What an inheriting table or a partition has does not pass the triggers of its parent.
	// After a crash an unlogged table is empty, and no trigger has seen it. FOR KEY SHARE
	// keeps an id as it is if a unique index makes it a key.
	var plain, unique bool
	err = tx.QueryRow(ctx, "SELECT c.relkind = 'r' AND c.relpersistence = 'p' AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE $1 IN (inhparent, inhrelid)), "+
		"EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "+
		"WHERE i.indrelid = $1 AND a.attname = $2 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL) "+
		"FROM pg_catalog.pg_class c WHERE c.oid = $1", table, layout.Columns[0].Theirs).Scan(&plain, &unique)
	id := layout.Columns[0]
	switch {
	case err != nil:
		return err
	case !plain:
		return fmt.Errorf("%s cannot be followed: only an ordinary table can, no view and no partitions", layout.Table)
	case !slices.Contains([]string{"uuid", "text", "varchar", "bpchar"}, id.Kind):
		return fmt.Errorf("%s cannot be followed: its column %q is neither uuid nor text", layout.Table, id.Theirs)
	case !unique:
		return fmt.Errorf("%s cannot be followed: its column %q needs a unique index or a primary key", layout.Table, id.Theirs)
	}
	return nil
}

// pursuit is what FollowTable makes of a layout. The arguments are those of the trigger function
// carry_over: SQL expressions for the id, the hash and the row, and whether labels are repaired.
type pursuit struct {
	layout    movein.Layout
	id        string // their column, quoted
	arguments []string
}

// quoted is the name of their column.
func quoted(c movein.Column) string { return pgx.Identifier{c.Theirs}.Sanitize() }

// newPursuit makes the expressions that turn a row of theirs into one that {own}.carry takes.
// They use format instead of casts to text, since a type of theirs may have a cast that runs
// their code.
func newPursuit(layout movein.Layout, relabel bool) *pursuit {
	text := func(c movein.Column) string { return "format('%s', " + quoted(c) + ")" }
	row := make([]string, 0, len(layout.Columns))
	for _, c := range layout.Columns {
		var expression string
		switch {
		case c.Theirs == "":
			expression = "NULL::timestamptz"
		case c.Time:
			expression = quoted(c) + "::timestamptz"
		case c.Ours != "permissions", c.Kind == "json", c.Kind == "jsonb":
			expression = text(c)
		case c.Kind == "array":
			expression = "to_jsonb(nullif(" + text(c) + ", '')::text[])::text"
		default:
			expression = "to_jsonb(" + text(c) + ")::text"
		}
		row = append(row, expression+" AS "+c.Ours)
	}
	id, hash := layout.Columns[0], layout.Columns[2]
	return &pursuit{
		layout: layout, id: quoted(id),
		arguments: []string{text(id), text(hash), strings.Join(row, ", "), strconv.FormatBool(relabel)},
	}
}

// changed is the condition of the trigger of updates: a column is another one that is carried
// over. There is no list of columns instead, since it would miss what a trigger BEFORE the
// update changes. The last use is not carried over, and fires nothing.
func (p *pursuit) changed() string {
	var conditions []string
	for _, c := range p.layout.Columns {
		if column := quoted(c); c.Theirs != "" && c.Ours != "last_used_at" {
			conditions = append(conditions, fmt.Sprintf(
				`format('%%s', OLD.%s) COLLATE "C" IS DISTINCT FROM format('%%s', NEW.%s) COLLATE "C"`, column, column))
		}
	}
	return strings.Join(conditions, " OR ")
}

// triggers are the statements that make the triggers.
func (p *pursuit) triggers(mark string) []string {
	arguments := make([]string, len(p.arguments))
	for i, a := range p.arguments {
		arguments[i] = "'" + strings.ReplaceAll(a, "'", "''") + "'"
	}
	statements := make([]string, 0, 8)
	for event, row := range map[string]string{
		"INSERT": "ROW", "UPDATE": "ROW WHEN (" + p.changed() + ")", "DELETE": "ROW", "TRUNCATE": "STATEMENT",
	} {
		name := triggerName(event, mark)
		statements = append(statements,
			"CREATE TRIGGER "+name+" AFTER "+event+" ON "+p.layout.Table+" FOR EACH "+row+" EXECUTE FUNCTION {own}.carry_over("+strings.Join(arguments, ", ")+")",
			// Also under session_replication_role = replica.
			"ALTER TABLE "+p.layout.Table+" ENABLE ALWAYS TRIGGER "+name)
	}
	return statements
}

// triggerName ends with the mark of the store, so that two stores can follow one table.
func triggerName(event, mark string) string { return "sidecar_follow_" + strings.ToLower(event) + mark }

// beforeFollowing are the settings of a transaction on the other table. It waits for no lock for
// long, since others would wait behind it. Names without a schema are looked up in pg_catalog
// first. The expressions run with our rights, so a name must not lead to what another role has
// made.
var beforeFollowing = fmt.Sprintf("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL standard_conforming_strings = on; "+
	"SET LOCAL timezone = 'UTC'; SET LOCAL row_security = off; SET LOCAL lock_timeout = %d", lockBound.Milliseconds())

// onTheirTable runs do in a transaction with beforeFollowing. If it waits for a lock for longer
// than lockBound, it fails. A batch sets a shorter bound.
func (s *Store) onTheirTable(ctx context.Context, do func(tx *database) error) error {
	return s.transact(ctx, func(tx *database) error {
		if _, err := tx.Exec(ctx, beforeFollowing); err != nil {
			return err
		}
		return do(tx)
	})
}

// explainTheirs is explain for what onTheirTable returns. Two errors are told in words of what
// to do. Others are those of explain.
func explainTheirs(what string, err error) error {
	switch code(err) {
	case lockNotAvailable:
		return fmt.Errorf("%s: a transaction that takes long has locked the table: try again", what)
	case insufficientPrivilege:
		return fmt.Errorf("%w: the role of the store must own its own tables and the one that is followed, "+
			"or be a member of the role that does (GRANT)", explain(what, err))
	}
	return explain(what, err)
}

// install records the follow and makes the triggers, unless both are there. It reports
// whether the rows that were there before are as theirs are. If undo is set, it is returned,
// and nothing is kept.
//
// SHARE ROW EXCLUSIVE keeps writers away, not readers, until the commit. So no change falls between
// the look at the triggers and the new ones. That is also the lock of CREATE TRIGGER itself
// (https://www.postgresql.org/docs/current/explicit-locking.html). If there are old triggers, DROP
// TRIGGER keeps readers away too.
func (s *Store) install(ctx context.Context, p *pursuit, undo error) (caughtUp bool, err error) {
	err = s.onTheirTable(ctx, func(tx *database) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE "+p.layout.Table+" IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		var carried bool
		var arguments []string
		name := make(pgx.Identifier, 2)
		err := tx.QueryRow(ctx, "SELECT table_schema, table_name, arguments, caught_up, "+following+" FROM {own}.follow").
			Scan(&name[0], &name[1], &arguments, &caughtUp, &carried)
		first := errors.Is(err, pgx.ErrNoRows)
		switch {
		case err != nil && !first:
			return err
		case first:
			if caughtUp, err = p.noneElse(ctx, tx); err != nil {
				return err
			}
		case name.Sanitize() != p.layout.Table:
			return fmt.Errorf("%s is followed already: end that by import --unfollow", name.Sanitize())
		case carried && slices.Equal(arguments, p.arguments):
			return undo
		default: // what was changed while they were away has to be brought over
			caughtUp = false
		}
		// The old ones go first, since their arguments may be others, or somebody has disabled
		// them.
		if err := removeTriggers(ctx, tx); err != nil {
			return err
		}
		for _, statement := range p.triggers(tx.mark) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		var used *string
		if c := p.layout.Columns[5]; c.Theirs != "" {
			used = &c.Theirs
		}
		_, err = tx.Exec(ctx, "INSERT INTO {own}.follow (table_schema, table_name, id_column, used_column, arguments, caught_up, trusted) "+
			"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (only_row) DO UPDATE SET id_column = $3, used_column = $4, arguments = $5, "+
			"caught_up = $6, trusted = $7, made_by = pg_current_xact_id()::xid",
			p.layout.Schema, p.layout.Name, p.layout.Columns[0].Theirs, used, p.arguments, caughtUp, first)
		if err == nil {
			err = undo
		}
		return err
	})
	return caughtUp, err
}

// noneElse looks at the keys that were imported before. It reports whether there are none.
// Those that the table does not have came from elsewhere, or were deleted since: they would
// stay good for ever.
func (p *pursuit) noneElse(ctx context.Context, tx *database) (none bool, err error) {
	var strays int
	var example string
	err = tx.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM {keys} WHERE created_by = 'import' AND NOT minted), s.n, s.id FROM ("+
		"SELECT count(*) AS n, coalesce(min(k.id::text), '') AS id FROM {keys} k WHERE "+p.stray()+") AS s").Scan(&none, &strays, &example)
	if err == nil && strays > 0 {
		err = fmt.Errorf("%d key(s) that were imported before are not in %s, such as %s: revoke them first", strays, p.layout.Table, example)
	}
	return none, err
}

// stray is the condition that the key k was imported, and is not in the table.
func (p *pursuit) stray() string {
	return "k.created_by = 'import' AND NOT k.minted AND NOT EXISTS (SELECT FROM " + p.layout.Table + " AS theirs WHERE lower(" + p.arguments[0] + ") = k.id::text)"
}

// removeTriggers removes them from whichever table they are on. It finds them by the function
// that they call, whatever their names are.
func removeTriggers(ctx context.Context, tx *database) error {
	names, err := collect(ctx, tx, sqlstore.ScanText, "SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "+
		"WHERE p.pronamespace = to_regnamespace('{own}') AND p.proname = 'carry_over'")
	if err != nil {
		return err
	}
	for _, statement := range names {
		if _, err := tx.runner.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// UnfollowTable ends what [Store.FollowTable] has begun, also if the table is gone. It returns
// the name of the table, or "" if none was followed. Keys that were carried over stay.
func (s *Store) UnfollowTable(ctx context.Context) (table string, err error) {
	err = s.onTheirTable(ctx, func(tx *database) error {
		if err := removeTriggers(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM {own}.follow_unfit"); err != nil {
			return err
		}
		name := make(pgx.Identifier, 2)
		err := tx.QueryRow(ctx, "DELETE FROM {own}.follow RETURNING table_schema, table_name").Scan(&name[0], &name[1])
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		table = name.Sanitize()
		return err
	})
	return table, explainTheirs("end the follow", err)
}

// TryToFollow returns the error that FollowTable would return before it reads the rows. It
// changes nothing. The triggers are made and rolled back, so rights and locks are tried too.
func (s *Store) TryToFollow(ctx context.Context, layout movein.Layout, relabel bool) error {
	undone := errors.New("undone")
	if _, err := s.install(ctx, newPursuit(layout, relabel), undone); !errors.Is(err, undone) {
		return explainTheirs("follow the table", err)
	}
	return nil
}

// FollowTable carries the rows of another service's table over, and all its changes from
// then on. The layout comes from [Store.ReadTable], with Follow set. The triggers come
// first, so that nothing is missed; then the rows, in batches. If it is interrupted, call it
// again. It returns how many keys it has added, and tells progress how many rows it has read.
//
// Unlike [Store.ReadTable] it has no say in what becomes of rows that do not fit: they are
// recorded, and left out.
//
// Each batch is a transaction of its own. Until the rows are as theirs are, the follow is not
// trusted if the triggers were away: instances accept no imported key then.
func (s *Store) FollowTable(ctx context.Context, layout movein.Layout, relabel bool, progress func(rows int)) (added int, err error) {
	const what = "follow the table"
	p := newPursuit(layout, relabel)
	caughtUp, err := s.install(ctx, p, nil)
	if err != nil {
		return 0, explainTheirs(what, err)
	}
	added, err = s.carryAll(ctx, p.insertBatch, progress)
	if err == nil && !caughtUp {
		err = s.catchUp(ctx, p, progress)
	}
	return added, explainTheirs(what, err)
}
