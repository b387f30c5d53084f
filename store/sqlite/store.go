// Package sqlite keeps system keys in one SQLite file, for a single server
// that needs no database beside it.
//
// The driver is modernc.org/sqlite, which is pure Go. The file is in WAL mode
// and never locked exclusively, so that the command line can work on it while
// the server runs. A commit is synced to disk before it is reported.
//
// In the file, times are integers: microseconds since the Unix epoch, and 0
// for never (expires_at, last_used_at). Permissions are a JSON array.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Store is a [store.Store] in a SQLite file. See [Open].
type Store struct {
	path  string
	files *files
	now   func() time.Time
	// writer has one connection, since SQLite has one writer at a time. Waiting for that
	// connection is fair and honours a context. Polling for the lock of the file does not.
	writer  *sql.DB
	readers *sql.DB
	seen    store.Seen
	calls   observe.Calls

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	feeds   map[*feed]struct{}
	close   func() error
}

// Path returns the file's absolute path.
func (s *Store) Path() string { return s.path }

// Observe implements [observe.Observed].
func (s *Store) Observe(meter observe.Meter) { s.calls.Observe(meter) }

// Close implements [store.Store].
func (s *Store) Close() error { return s.close() }

func (s *Store) closeAll() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
	if s.files.check() != nil {
		// Closing the last connection would delete the files that have these names now,
		// which are not ours. Everything stays open until the process ends.
		return nil
	}
	if err := errors.Join(s.readers.Close(), s.writer.Close()); err != nil {
		return fmt.Errorf("close %q: %w", s.path, err)
	}
	return nil
}

// begin counts a call as running, so that Close waits for it. If there is no error, the
// caller must call s.running.Done.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.running.Add(1)
	return nil
}

// write runs do in a transaction that holds the write lock from its start. It commits the
// transaction unless do returns an error. It writes only to the history that is followed.
func (s *Store) write(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	return s.writeUnchecked(ctx, what, func(tx *sql.Tx) error {
		if err := s.checkHistory(ctx, tx); err != nil {
			return err
		}
		return do(tx)
	})
}

// writeUnchecked is [Store.write] for a feed, which must find out which history there is.
func (s *Store) writeUnchecked(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	err := s.transact(ctx, s.writer, what, do)
	if err == nil {
		s.wakeFeeds()
	}
	return err
}

// exec runs one statement by [Store.write] and returns how many rows have changed.
func (s *Store) exec(ctx context.Context, what, statement string, args ...any) (int64, error) {
	return result(ctx, s.write, what, func(tx *sql.Tx) (int64, error) { return changed(tx.ExecContext(ctx, statement, args...)) })
}

// result runs do in a transaction and returns its result, or the zero value with an error.
// Run is [Store.read], [Store.readFollowed], [Store.write] or [Store.writeUnchecked].
func result[T any](
	ctx context.Context, run func(ctx context.Context, what string, do func(tx *sql.Tx) error) error,
	what string, do func(tx *sql.Tx) (T, error),
) (T, error) {
	named := func(ctx context.Context, do func(tx *sql.Tx) error) error { return run(ctx, what, do) }
	return sqlstore.Result(ctx, named, do)
}

// changed returns how many rows a statement has changed.
func changed(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// collect returns all rows of a query.
func collect[T any](
	ctx context.Context, tx *sql.Tx, scan func(row sqlstore.Row) (T, error), statement string, args ...any,
) (all []T, err error) {
	rows, err := tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err returns its error
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// read runs do in a transaction that sees one state of the database.
func (s *Store) read(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	return s.transact(ctx, s.readers, what, do)
}

// readFollowed is [Store.read], and checks that the database has the history that the feed
// has seen. The file may have been restored from a backup, and a connection may still have
// the old file open.
func (s *Store) readFollowed(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	renew := func() {
		s.readers.SetMaxIdleConns(0) // closes the idle connections
		s.readers.SetMaxIdleConns(maxReaders)
	}
	return s.seen.Believe(renew, func() error {
		return s.read(ctx, what, func(tx *sql.Tx) error {
			if err := s.checkHistory(ctx, tx); err != nil {
				return err
			}
			return do(tx)
		})
	})
}

// checkHistory returns [store.ErrOtherHistory] if the place that the feed has seen is not in
// the log.
func (s *Store) checkHistory(ctx context.Context, tx *sql.Tx) error {
	_, place := s.seen.History()
	if place == (store.Position{}) {
		return nil
	}
	var there bool
	err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM change_log WHERE rev = ? AND tag = ?)", place.Rev, place.Tag).
		Scan(&there)
	if err == nil && !there {
		err = store.ErrOtherHistory
	}
	return err
}

// transact runs do in a transaction. It checks the files after the commit, so that it never
// reports success for a commit to a file that was replaced.
func (s *Store) transact(ctx context.Context, db *sql.DB, what string, do func(tx *sql.Tx) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	var err error
	if db == s.writer {
		err = s.files.check() // a write to a replaced file would be lost
	}
	if err == nil {
		err = s.explain(ctx, inTransaction(ctx, db, do))
		if lost := s.files.check(); lost != nil {
			err = lost
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func inTransaction(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the error of do is the one that counts
		return err
	}
	return tx.Commit()
}

// explain turns SQLite's result codes into errors that say what to do. The messages of
// SQLite name columns and constraints, never values.
func (s *Store) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	code := resultCode(err)
	switch {
	// When the context ends, database/sql rolls back on its own. The next call then gets
	// ErrTxDone.
	case ctx.Err() != nil && (code == codes.SQLITE_INTERRUPT || errors.Is(err, sql.ErrTxDone)):
		return context.Cause(ctx)
	case code == codes.SQLITE_CONSTRAINT_PRIMARYKEY, code == codes.SQLITE_CONSTRAINT_UNIQUE:
		return store.ErrConflict
	}
	// The low byte is the primary code: https://sqlite.org/rescode.html
	switch code & 0xff {
	case codes.SQLITE_NOTADB, codes.SQLITE_CORRUPT:
		return fmt.Errorf("%q is not a SQLite database, or is damaged: %w", s.path, err)
	case codes.SQLITE_CANTOPEN, codes.SQLITE_READONLY, codes.SQLITE_PERM:
		return fmt.Errorf("%q and its folder must be writable by this user: %w", s.path, err)
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return fmt.Errorf("%q is locked by another program: %w", s.path, err)
	}
	return err
}

func isBusy(err error) bool { return resultCode(err)&0xff == codes.SQLITE_BUSY }

// resultCode returns SQLite's extended result code, or 0 if err has none.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite3.Error](err); ok {
		return e.Code()
	}
	return 0
}

var (
	_ store.Store      = (*Store)(nil)
	_ observe.Observed = (*Store)(nil)
)
