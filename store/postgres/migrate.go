package postgres

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The first migration makes the whole schema. A later one runs while servers of the version
// before serve. It is cancelled and tried again if it holds a lock for longer than
// lockBound, so it changes the catalog and nothing else. What takes longer is a migration
// of its own, and begins with a line that says so. For instance:
//
//	0002  ALTER TABLE {keys} ADD COLUMN team text;
//	      ALTER TABLE {keys} ALTER COLUMN team SET DEFAULT '';
//	0003  -- in batches …
//	0004  ALTER TABLE {keys} ADD CONSTRAINT team_is_set CHECK (team IS NOT NULL) NOT VALID;
//	0005  -- without locks
//	      ALTER TABLE {keys} VALIDATE CONSTRAINT team_is_set;
//	0006  ALTER TABLE {keys} ALTER COLUMN team SET NOT NULL;
//	      ALTER TABLE {keys} DROP CONSTRAINT team_is_set;
//
// PostgreSQL does not read the table for SET NOT NULL if such a constraint was validated.
//
//go:embed migrations/*.sql
var scripts embed.FS

var migrations = sqlstore.LoadMigrations(scripts)

// These are first lines of migrations.
const (
	// inBatches is a statement for some rows at a time; see [migrator.fill].
	inBatches = "-- in batches\n"
	// withoutLocks takes no lock that readers or writers wait for.
	withoutLocks = "-- without locks\n"
)

const (
	// lockWait is how long a migration waits for a lock. While it waits for a table, behind a
	// backup for instance, all later sessions wait behind it, readers too.
	lockWait = time.Second / 2
	// lockBound is how long it holds a lock.
	lockBound = time.Second
	// lockPause is how long it lets the others pass before it tries again.
	lockPause = 2 * time.Second
	// batchRows is how many rows are filled at a time. If that takes longer than lockBound,
	// the next batches are smaller.
	batchRows = 1000
	// loggedRows is after how many rows the log says how far a migration is.
	loggedRows = 50_000
)

// Migrate implements [store.Store]. If another session holds a table, it tries again until
// the context ends, and never waits for long at once. If it is interrupted, the next call
// goes on from there.
//
// If the schema is up to date, Migrate only reads. Else the role needs the right to create
// a table in the schema of system_keys, and a schema in the database. The latter is not
// needed if the role owns the schema of the other tables.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.checkServer(ctx); err != nil {
		return explain("migrate", err)
	}
	version := func() (int, error) {
		state, err := s.state(ctx, s.pool)
		return state.version, explain("migrate", err)
	}
	m := &migrator{Store: s, batch: batchRows}
	return s.migrations.Run("the schema", version, func(next sqlstore.Migration) error { return m.apply(ctx, next) })
}

// migrator is one run of [Store.Migrate]. Batch grows no more once it was halved. Tries counts
// the attempts since the last success, so that the log has one line for twenty of them.
type migrator struct {
	*Store
	batch int // rows
	tries int // without success
}

// passing are the error codes of what may be different the next time. They are locks, time
// limits, deadlocks and serialization.
var passing = []string{lockNotAvailable, queryCanceled, idleTooLong, deadlockDetected, serializationFailure}

// apply applies a migration, or one batch of it. It leaves the version as it is if there is
// more to do, so that the caller tries again.
func (m *migrator) apply(ctx context.Context, next sqlstore.Migration) error {
	err := pgx.BeginTxFunc(ctx, m.pool, transaction, func(tx pgx.Tx) error { return m.migrate(ctx, tx, next) })
	err = explain("migrate: "+next.Name, err)
	switch failed := code(err); {
	case !slices.Contains(passing, failed):
		m.tries = 0
		return err
	case failed == queryCanceled:
		m.batch = max(1, m.batch/2)
	}
	if m.tries++; m.tries%20 == 1 {
		m.logger.Info("a migration lets others pass and tries again", slog.String("migration", next.Name), slog.Any("error", err))
	}
	return pause(ctx, err)
}

// pause waits between two attempts. If the context ends, it returns the cause and err, which
// is the error of the last attempt.
func pause(ctx context.Context, err error) error {
	timer := time.NewTimer(lockPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}

// migrate is one attempt, in a transaction. The advisory lock makes instances take turns. The
// version is read after that, so a migration is applied once.
func (m *migrator) migrate(ctx context.Context, tx pgx.Tx, next sqlstore.Migration) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", scopeOf(m.ownSchema()).migration); err != nil {
		return err
	}
	now, err := m.state(ctx, tx)
	if err != nil || now.version != next.Version-1 {
		return err
	}
	if next.Version == 1 {
		return m.install(ctx, tx, next)
	}
	// The bounds do not hold for the lock above, whose holder migrates.
	wait, idle := lockWait.Milliseconds(), lockBound.Milliseconds()
	held := idle
	if strings.HasPrefix(next.Script, withoutLocks) {
		held = 0 // no bound
	}
	_, err = tx.Exec(ctx, "SELECT set_config('lock_timeout', $1::text, true), "+
		"set_config('idle_in_transaction_session_timeout', $2::text, true), set_config('statement_timeout', $3::text, true)",
		strconv.FormatInt(wait, 10), strconv.FormatInt(idle, 10), strconv.FormatInt(held, 10))
	if err != nil {
		return err
	}
	db := &database{tx, newInstallation(m.ownSchema(), now.keys, "''")}
	if strings.HasPrefix(next.Script, inBatches) {
		if more, err := m.fill(ctx, db, next); err != nil || more {
			return err
		}
	} else if err := script(ctx, tx, db, next); err != nil {
		return err
	}
	return enter(ctx, db, next)
}

// install applies the first migration.
//
// It needs no bounds: nobody uses the tables before they are committed.
func (m *migrator) install(ctx context.Context, tx pgx.Tx, first sqlstore.Migration) error {
	keys, err := m.createSchema(ctx, tx)
	if err != nil {
		return err
	}
	db := &database{tx, newInstallation(m.ownSchema(), keys, "''")}
	first.Script = strings.Replace(first.Script, "{visible}", visible(), 1)
	if err := script(ctx, tx, db, first); err != nil {
		return err
	}
	key := sqlstore.NewMintKey()
	if _, err := db.Exec(ctx, "INSERT INTO {own}.mint_key (key) VALUES ($1) ON CONFLICT DO NOTHING", key[:]); err != nil {
		return err
	}
	return enter(ctx, db, first)
}

// visible returns the characters beyond ASCII that make a label visible, as a regular
// expression has them between brackets. Their classes depend on the locale in PostgreSQL.
var visible = sync.OnceValue(func() string {
	var class strings.Builder
	const end = 0x40000 // the planes behind it have no such characters
	for first := rune(0x80); first < end; first++ {
		last := first
		for ; last < end; last++ {
			if _, err := store.CleanLabel(string(last)); err != nil {
				break
			}
		}
		if last > first {
			class.WriteRune(first)
			class.WriteByte('-')
			class.WriteRune(last - 1)
			first = last
		}
	}
	return class.String()
})

// script runs the script of a migration. A query without arguments may hold several statements.
// It goes past pgx to the protocol of simple queries, which runs them one after the other.
func script(ctx context.Context, tx pgx.Tx, db *database, next sqlstore.Migration) error {
	_, err := tx.Conn().PgConn().Exec(ctx, db.sql(next.Script)).ReadAll()
	return err
}

// enter records that a migration was applied. The schema of the keys goes with it, so that each
// later connection finds the table.
func enter(ctx context.Context, db *database, next sqlstore.Migration) error {
	_, err := db.Exec(ctx, "INSERT INTO {own}.schema_migrations (version, name, keys_schema) VALUES ($1, $2, $3)",
		next.Version, next.Name, db.keys)
	return err
}

// fill runs the statement of a migration for one batch, and reports whether there may be
// more. Where the next batch begins is recorded in the transaction of the batch.
//
// The statement takes the rows whose id is at least $1, in the order of their ids, $2 at
// most, locks them in that order, as lockUsed does, and returns their ids, also of those
// that it leaves as they are. Rows that come later get the column's default.
func (m *migrator) fill(ctx context.Context, db *database, next sqlstore.Migration) (more bool, err error) {
	var from store.ID
	var filled int
	err = db.QueryRow(ctx, "INSERT INTO {own}.schema_batches AS b (version) VALUES ($1) "+
		"ON CONFLICT (version) DO UPDATE SET version = b.version RETURNING next, filled", next.Version).Scan(sqlstore.ID(&from), &filled)
	if err != nil {
		return false, err
	}
	ids, err := collect(ctx, db, sqlstore.ScanID, next.Script, uuid(from), m.batch)
	if err != nil {
		return false, err
	}
	before := filled
	filled += len(ids)
	from, more = behind(ids)
	more = more && len(ids) == m.batch // else new rows, which need nothing, would keep it going
	if !more || filled/loggedRows > before/loggedRows {
		m.logger.Info("a migration fills rows", slog.String("migration", next.Name), slog.Int("rows", filled), slog.Bool("done", !more))
	}
	if !more {
		_, err = db.Exec(ctx, "DELETE FROM {own}.schema_batches WHERE version = $1", next.Version)
		return false, err
	}
	_, err = db.Exec(ctx, "UPDATE {own}.schema_batches SET next = $2, filled = $3 WHERE version = $1", next.Version, uuid(from), filled)
	return true, err
}

// behind returns the smallest id that is greater than all of these. There is none if there are
// no ids, or if one of them is the greatest that there can be. Ids compare as bytes, as uuid
// does in PostgreSQL.
func behind(ids []store.ID) (next store.ID, ok bool) {
	for _, id := range ids {
		if string(id[:]) > string(next[:]) {
			next = id
		}
	}
	for i := len(next) - 1; i >= 0 && len(ids) > 0; i-- {
		if next[i]++; next[i] != 0 {
			return next, true
		}
	}
	return next, false
}

// MintKey implements [store.Store].
func (s *Store) MintKey(ctx context.Context) (store.MintKey, error) {
	const what = "read the mint key"
	db, err := s.database(ctx)
	if err != nil {
		return store.MintKey{}, explain(what, err)
	}
	key, err := mintKey(ctx, db)
	return key, explain(what, err)
}

// mintKey reads the mint key, which the first migration has stored.
func mintKey(ctx context.Context, db *database) (store.MintKey, error) {
	return sqlstore.ScanMintKey(db.QueryRow(ctx, "SELECT key FROM {own}.mint_key"))
}
