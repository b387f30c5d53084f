package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// defaultSchema has everything but the table system_keys if the store has no schema by name.
const defaultSchema = "sidecar"

// keysTable is the name of the table that other services read and write.
const keysTable = "system_keys"

// maxName is how many bytes of a name PostgreSQL keeps (NAMEDATALEN - 1). It cuts longer ones
// with a notice alone, and they would name another schema.
const maxName = 63

// CheckSchema returns what is wrong with the name of a schema. It asks no server.
func CheckSchema(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("the schema must have 1 to %d bytes, not %d", maxName, len(name))
	case strings.ContainsRune(name, 0) || !utf8.ValidString(name):
		return errors.New("the schema must be text in UTF-8, without a zero byte")
	case strings.HasPrefix(name, "pg_"):
		return errors.New("the schema must not begin with pg_, which PostgreSQL keeps for itself")
	case name == defaultSchema:
		return fmt.Errorf("the schema must not be %s, which stores without a schema of their own use", defaultSchema)
	}
	return nil
}

// ownSchema is the schema of all tables but system_keys, and of the functions.
func (s *Store) ownSchema() string {
	if s.schema == "" {
		return defaultSchema
	}
	return s.schema
}

// scope is what the advisory locks and the names outside of schemas are made of, so that
// two stores in one database do not disturb each other.
type scope struct {
	migration int64 // the lock of a migrating instance
	log       int32 // the first number of the lock of the change log
	mark      string
}

// scopeOf returns the scope of the schema that holds a store. The numbers of the default are
// arbitrary. They must only differ from the locks of other programs on the same database.
func scopeOf(own string) scope {
	if own == defaultSchema {
		return scope{migration: 0x6c6d5f7379735f6b, log: 1801942375} // "lm_sys_k"
	}
	sum := sha256.Sum256([]byte(own))
	return scope{
		migration: int64(binary.BigEndian.Uint64(sum[8:])),
		log:       int32(binary.BigEndian.Uint32(sum[16:])),
		mark:      "_" + hex.EncodeToString(sum[:8]),
	}
}

// compaction is the lock of compactCount.
func (s scope) compaction() int64 { return s.migration + 1 }

// installation knows where the tables of a store are. All statements name the schema of each
// table, so that none depends on search_path.
type installation struct {
	scope
	own, keys string // the schemas of ownSchema and of the table system_keys
	words     *strings.Replacer

	mu    sync.RWMutex
	texts map[string]string
}

// newInstallation returns the installation whose tables are in these schemas. Origin is one
// of [origins].
//
// In a statement, {keys} is the table system_keys, {own} the schema of everything else, and
// {origin} the expression of the server's origin. {mark} ends the names of notification
// channels and settings, and {lock} is the first number of advisory locks. The names are
// quoted. A name that stands directly behind a quotation mark is part of a text, and quoted
// for that as well.
func newInstallation(own, keys, origin string) *installation {
	i := &installation{scope: scopeOf(own), own: own, keys: keys, texts: make(map[string]string)}
	schema, table := pgx.Identifier{own}.Sanitize(), pgx.Identifier{keys, keysTable}.Sanitize()
	inText := strings.NewReplacer("'", "''")
	sum := sha256.Sum256([]byte(own + keys))
	i.words = strings.NewReplacer(
		"'{own}", "'"+inText.Replace(schema), "'{keys}", "'"+inText.Replace(table),
		"{own}", schema, "{keys}", table,
		"{origin}", origin, "{mark}", i.mark, "{lock}", strconv.Itoa(int(i.log)),
		// A name may hold the mark at which the body of a function would end.
		"$$", "$b"+hex.EncodeToString(sum[:8])+"$",
	)
	return i
}

// sql returns a statement with the names of this installation. It remembers what it returns:
// there are only as many statements as the program makes of its constants. Any number of
// goroutines may call it.
func (i *installation) sql(statement string) string {
	i.mu.RLock()
	text, ok := i.texts[statement]
	i.mu.RUnlock()
	if !ok {
		text = i.words.Replace(statement)
		i.mu.Lock()
		i.texts[statement] = text
		i.mu.Unlock()
	}
	return text
}

// table returns the name of a table in the installation's own schema. For a COPY, pgx takes the
// name in parts, not as SQL.
func (i *installation) table(name string) pgx.Identifier { return pgx.Identifier{i.own, name} }

// runner is a pool, a connection or a transaction.
type runner interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
}

// database runs statements with the names of an installation. The statements of a batch need
// [installation.sql].
type database struct {
	runner
	*installation
}

// on returns the same installation for another connection or transaction.
func (db *database) on(r runner) *database { return &database{r, db.installation} }

// Query runs a statement that returns rows.
func (db *database) Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	return db.runner.Query(ctx, db.sql(statement), args...)
}

// QueryRow runs a statement that returns one row.
func (db *database) QueryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	return db.runner.QueryRow(ctx, db.sql(statement), args...)
}

// Exec runs a statement that returns nothing.
func (db *database) Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	return db.runner.Exec(ctx, db.sql(statement), args...)
}

// errNoSchema means that [Store.Migrate] has not made the schema yet.
var errNoSchema = errors.New("the database has no schema of system keys yet")

// database returns the pool with the names of the store's tables. It checks the server and finds
// these out once. If two calls do that at the same time, both get what the first one has stored.
func (s *Store) database(ctx context.Context) (*database, error) {
	if db := s.found.Load(); db != nil {
		return db, nil
	}
	if err := s.checkServer(ctx); err != nil {
		return nil, err
	}
	origin, err := originOf(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	state, err := s.state(ctx, s.pool)
	if err == nil && state.version == 0 {
		err = errNoSchema
	}
	if err != nil {
		return nil, err
	}
	s.found.CompareAndSwap(nil, &database{s.pool, newInstallation(s.ownSchema(), state.keys, origin)})
	return s.found.Load(), nil
}

// state is what a database records of an installation.
type state struct {
	version int    // of the last migration; 0 without any
	keys    string // the schema in which the first migration made system_keys
}

// state reads what the database records, and refuses a DSN that leads to another table.
//
// The version is 0 without a schema. The error is a [*store.RefusedError] if the search_path leads
// elsewhere, or if the schema was renamed.
func (s *Store) state(ctx context.Context, db runner) (state, error) {
	var now state
	own, exists := s.ownSchema(), false
	// This does not use to_regclass, which can answer from a cache older than the lock of a
	// migration. Other programs have a table of that name too, so the column counts.
	err := db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "+
		"JOIN pg_namespace n ON n.oid = c.relnamespace "+
		"WHERE n.nspname = $1 AND c.relname = 'schema_migrations' AND a.attname = 'keys_schema')", own).Scan(&exists)
	if err != nil || !exists {
		return now, err
	}
	err = db.QueryRow(ctx, "SELECT coalesce(max(version), 0), coalesce(max(keys_schema), '') FROM "+
		pgx.Identifier{own, "schema_migrations"}.Sanitize()).Scan(&now.version, &now.keys)
	switch {
	case err != nil:
	case s.schema == "":
		err = leadsTo(ctx, db, now.keys)
	case s.schema != now.keys:
		err = refuse("the schema %q was made as %q, and its functions name that one: give it its name back", s.schema, now.keys)
	}
	return now, err
}

// leadsTo refuses a connection whose search_path leads to another table system_keys than the
// one of the store, or, if somebody has set it, to none. Its user means another table: a
// revocation would report success, and the keys of that table would stay good.
func leadsTo(ctx context.Context, db runner, keys string) error {
	var visible string
	var set bool
	err := db.QueryRow(ctx, "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "+
		"WHERE c.relname = $1 AND pg_table_is_visible(c.oid)), ''), EXISTS (SELECT FROM pg_settings "+
		"WHERE name = 'search_path' AND source NOT IN ('default', 'configuration file'))", keysTable).Scan(&visible, &set)
	switch {
	case err != nil || visible == keys:
		return err
	case visible != "":
		return refuse("the search_path of this connection leads to the table system_keys in the schema %q, and the store of this "+
			"database has its keys in the schema %q: leave search_path out, or name a store of its own by schema <name>", visible, keys)
	case set:
		return refuse("the search_path of this connection leads to no table system_keys, and the store of this database has its "+
			"keys in the schema %q: leave search_path out, or name a store of its own by schema <name>", keys)
	}
	return nil
}

// refuse makes a [store.RefusedError].
func refuse(format string, args ...any) error {
	return &store.RefusedError{Err: fmt.Errorf(format, args...)}
}

// createSchema creates the schema of a new store, if there is none, and the table of applied
// migrations. It returns the schema in which system_keys is to be made. The errors are
// [*store.RefusedError] for a database or a schema in which a store cannot be.
func (s *Store) createSchema(ctx context.Context, tx pgx.Tx) (keys string, err error) {
	var encoding string
	var occupied, exists, everybody bool
	// Keys may come into the schema of the store, or into the one that search_path leads to.
	err = tx.QueryRow(ctx, `SELECT current_setting('server_encoding'), CASE WHEN $1 = '' THEN coalesce(current_schema(), '') ELSE $1 END,
    EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $2 AND CASE WHEN $1 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END),
    EXISTS (SELECT FROM pg_namespace WHERE nspname = $3),
    EXISTS (SELECT FROM pg_namespace n, aclexplode(n.nspacl) a WHERE nspname = $3 AND a.grantee = 0 AND a.privilege_type = 'CREATE')`,
		s.schema, keysTable, s.ownSchema()).Scan(&encoding, &keys, &occupied, &exists, &everybody)
	named := s.schema != ""
	switch {
	case err != nil:
		return "", err
	case encoding != "UTF8":
		return "", refuse("the database has the encoding %s, and labels need UTF8", encoding)
	case keys == "":
		return "", refuse("search_path leads to no schema that there is: name one by schema <name>")
	case occupied && named:
		return "", refuse("the schema %q has a table system_keys of another program: choose another schema", s.schema)
	case occupied:
		return "", refuse("the database has a table system_keys of another program: give this store a schema of its own " +
			"(in a Caddyfile: store postgres <dsn> { schema <name> })")
	case named && everybody:
		// Our functions run with our rights, and a function of somebody else's could take the
		// place of one of ours.
		return "", refuse("everybody may create functions in the schema %q: choose another, or revoke that right from PUBLIC", s.schema)
	}
	own := pgx.Identifier{s.ownSchema()}.Sanitize()
	var statements []string
	if !exists { // CREATE SCHEMA IF NOT EXISTS would need the right to create in any case
		statements = append(statements, "CREATE SCHEMA "+own)
	}
	if !exists || !named { // the rights on a schema of somebody's are theirs to give
		statements = append(statements, "REVOKE ALL ON SCHEMA "+own+" FROM PUBLIC", "GRANT USAGE ON SCHEMA "+own+" TO PUBLIC")
	}
	statements = append(statements, "CREATE TABLE "+own+`.schema_migrations (
    version     int PRIMARY KEY,
    name        text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Where the first migration has made the table system_keys.
    keys_schema text
)`, "CREATE TABLE "+own+`.schema_batches (
    version int PRIMARY KEY,
    next    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    filled  bigint NOT NULL DEFAULT 0
)`)
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return "", err
		}
	}
	return keys, nil
}
