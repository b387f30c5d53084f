package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	selectKnown = "SELECT " + keyColumns + " FROM {keys} WHERE id = ANY ($1)"
	// selectRevoked leaves out what a table of another service has deleted itself: that service
	// may bring the key back.
	selectRevoked = "SELECT DISTINCT key_id FROM {own}.audit_log WHERE key_id = ANY ($1) AND event = ANY ($2) AND NOT (actor_type = 'sql' AND actor = 'import')"
)

// KnownKeys implements [store.Moving].
//
// The two answers are not of one state. An id can be in both.
func (s *Store) KnownKeys(ctx context.Context, ids []store.ID) (keys []store.Key, revoked []store.ID, err error) {
	ctx, end := s.call(ctx, "known_keys", "look for keys")
	defer end(&err)
	db, err := s.database(ctx)
	if err != nil {
		return nil, nil, err
	}
	all := uuids(ids)
	// In this order a key that is revoked meanwhile is in one of the answers at least.
	keys, err = collect(ctx, db, func(row sqlstore.Row) (store.Key, error) { return sqlstore.WithHash(row, scanKey) }, selectKnown, all)
	if err != nil {
		return nil, nil, err
	}
	revoked, err = collect(ctx, db, sqlstore.ScanID, selectRevoked, all, []string{string(store.AuditRevoked), string(store.AuditExpired)})
	if err != nil {
		return nil, nil, err
	}
	return keys, revoked, nil
}

// AddKeys implements [store.Moving].
//
// The commit waits for the disk, even if the server is configured not to. If the server waits for
// standbys, so does AddKeys. The transaction locks no rows but its own, and takes the lock of the
// change log only at the commit. So servers run meanwhile.
func (s *Store) AddKeys(ctx context.Context, fill func(add func(keys []store.Key) error) error) error {
	if s.pool.Config().MaxConns < 2 {
		// Fill may call KnownKeys, which would wait for the connection of the transaction.
		return errors.New("add keys: the DSN sets pool_max_conns to 1, and 2 are needed")
	}
	return sqlstore.AddKeys(ctx, fill, func(do func(to store.Recipient) error) error {
		return explain("add keys", s.patiently(ctx, func(tx *database) error {
			if _, err := tx.Exec(ctx, "SELECT "+durable); err != nil {
				return err
			}
			return do(&recipient{tx: tx})
		}))
	})
}

// beforeReading makes times without a zone UTC. If row-level security would hide rows from this
// role, the query fails, and is not answered with some of the rows.
const beforeReading = "SET LOCAL timezone = 'UTC'; SET LOCAL row_security = off"

// ReadTable reads a table of another service in this database, as it is at one moment. The
// store need not be migrated. The rows are streamed, so memory does not grow with the
// table. An error of each ends the reading and is returned as it is.
//
// It calls from.Found with the layout before it reads the first row.
func (s *Store) ReadTable(ctx context.Context, from *movein.Source, each func(row *movein.Row) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	var eachErr error
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, beforeReading); err != nil {
			return err
		}
		layout, err := findTable(ctx, tx, from)
		if err != nil {
			return err
		}
		from.Found(layout)
		rows, _ := tx.Query(ctx, selectForeign(layout)) // the rows return its error
		defer rows.Close()
		for rows.Next() {
			row, err := scanForeign(rows)
			if err != nil {
				return err
			}
			if eachErr = each(row); eachErr != nil {
				cancel() // else the connection would read all other rows
				return eachErr
			}
		}
		return rows.Err()
	})
	if eachErr != nil {
		return eachErr
	}
	return explain("read the table", err)
}

// notNames are the codes for a text that is no name of a table: invalid_name, syntax_error,
// invalid_schema_name, and feature_not_supported for a name with a database in it.
var notNames = []string{"42602", "42601", "3F000", featureNotSupported}

// findTable finds the table and its columns in the catalog. Only the names from there get into a
// statement. The error names the table if it is not there, or has not the columns that are
// needed.
func findTable(ctx context.Context, tx pgx.Tx, from *movein.Source) (layout movein.Layout, err error) {
	// Tables, partitioned and foreign tables, and views of both kinds can be read.
	const find = "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace " +
		"WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
	var oid uint32
	name := make(pgx.Identifier, 2)
	err = tx.QueryRow(ctx, find, from.Table).Scan(&oid, &name[0], &name[1])
	switch {
	case errors.Is(err, pgx.ErrNoRows), slices.Contains(notNames, code(err)):
		return layout, fmt.Errorf("there is no table or view %q (a name with capitals goes in double quotes, as in SQL)", from.Table)
	case err != nil:
		return layout, err
	}
	own, err := isOwn(ctx, tx, oid, from.Target)
	if err == nil && own {
		err = movein.ErrSameTable
	}
	if err != nil {
		return layout, err
	}
	const columns = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), " +
		"coalesce(nullif(t.typbasetype, 0), t.oid) = ANY ('{date,timestamp,timestamptz}'::regtype[]::oid[]), " +
		"CASE WHEN b.typcategory = 'A' THEN 'array' WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN b.typname ELSE '' END " +
		"FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid " +
		"JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid) " +
		"WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
	rows, _ := tx.Query(ctx, columns, oid) // the rows return its error
	theirs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c movein.TheirColumn, err error) {
		err = row.Scan(&c.Name, &c.Type, &c.IsTime, &c.Kind)
		return c, err
	})
	if err != nil {
		return layout, err
	}
	layout, err = movein.Lay(name.Sanitize(), from.Columns, theirs)
	layout.Schema, layout.Name = name[0], name[1]
	if err == nil && from.Follow {
		err = followable(ctx, tx, oid, layout, from.Target)
	}
	return layout, err
}

// isOwn reports whether the table is the one that the store keeps its keys in. A store of
// another kind, or in another database, has none of its tables here.
func isOwn(ctx context.Context, tx pgx.Tx, table uint32, target store.Store) (own bool, err error) {
	s, ok := target.(*Store)
	if !ok {
		return false, nil
	}
	keys, err := s.sharedWith(ctx, tx)
	return keys == table, err
}

// sharedWith returns the table of the store's keys if the transaction is on the same
// database, or 0. The address does not tell, since one server may have several. But if a
// transaction of the store takes a lock, only the same database of the same server shows it.
func (s *Store) sharedWith(ctx context.Context, tx pgx.Tx) (keys uint32, err error) {
	db, err := s.database(ctx)
	if errors.Is(err, errNoSchema) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// A number of 64 bits is in two columns of pg_locks, and objsubid is 1
	// (https://www.postgresql.org/docs/current/view-pg-locks.html).
	const lock = "SELECT '{keys}'::regclass::oid FROM pg_catalog.pg_advisory_xact_lock($1)"
	const see = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' " +
		"AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) " +
		"AND classid::bigint << 32 | objid::bigint = $1 AND objsubid = 1)"
	err = pgx.BeginFunc(ctx, s.pool, func(mine pgx.Tx) error {
		number := rand.Int64() //nolint:gosec // it need not be secret
		if err := db.on(mine).QueryRow(ctx, lock, number).Scan(&keys); err != nil {
			return err
		}
		var same bool
		if err := tx.QueryRow(ctx, see, number).Scan(&same); err != nil || !same {
			keys = 0
			return err
		}
		return nil
	})
	return keys, err
}

// selectForeign reads the columns as [scanForeign] takes them. to_jsonb makes one form of all
// types that a list of permissions may have.
func selectForeign(layout movein.Layout) string {
	expressions := make([]string, 0, len(layout.Columns)+1)
	for _, c := range layout.Columns {
		column := pgx.Identifier{c.Theirs}.Sanitize()
		switch {
		case c.Theirs == "": // only times are optional
			column = "NULL::timestamptz"
		case c.Time:
			column += "::timestamptz"
		case c.Ours == "permissions":
			column = "to_jsonb(" + column + ")::text"
		default:
			column += "::text"
		}
		expressions = append(expressions, column)
	}
	id := expressions[0]
	expressions = append(expressions, "count(*) OVER (PARTITION BY lower("+id+` COLLATE "C"))`)
	return "SELECT " + strings.Join(expressions, ", ") + " FROM " + layout.Table
}

// scanForeign reads a row of selectForeign. NULL becomes an empty text or a zero time.
func scanForeign(rows pgx.Rows) (*movein.Row, error) {
	var row movein.Row
	var id, label, hash, permissions *string
	var created, used, expires pgtype.Timestamptz
	err := rows.Scan(&id, &label, &hash, &permissions, &created, &used, &expires, &row.Copies)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		from *string
		into *string
	}{{id, &row.ID}, {label, &row.Label}, {hash, &row.Hash}, {permissions, &row.Permissions}} {
		if c.from != nil {
			*c.into = *c.from
		}
	}
	foreign := func(t pgtype.Timestamptz) movein.Time {
		return movein.Time{At: t.Time, Infinite: t.InfinityModifier != pgtype.Finite}
	}
	row.CreatedAt, row.LastUsedAt, row.ExpiresAt = foreign(created), foreign(used), foreign(expires)
	return &row, nil
}
