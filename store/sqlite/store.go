// Package sqlite keeps system keys in one SQLite file, for a single server
// that needs no database beside it.
//
// The driver is modernc.org/sqlite, which is pure Go. The file is in WAL mode
// and never locked exclusively, so that the command line can work on it while
// the server runs. A commit is synced to disk before it is reported.
//
// In the file, times are integers: microseconds since the Unix epoch, and 0
// for never (expires_at, last_used_at). Permissions are a JSON array.
//
// Networks and ancestors are JSON arrays too. An id is a UUID as text, in lower case. All
// tables but the index of the search are STRICT, so that a column holds values of its type
// alone (https://sqlite.org/stricttables.html).
//
// SQLite has one writer at a time, whichever process it is in. A transaction of this package
// that writes takes the lock at its start. So it needs no locks of rows: nothing changes
// between its look at a row and its write. A reader sees one state of the database, and neither
// waits for the writer nor keeps it waiting (https://sqlite.org/wal.html section 2.2).
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
	// path is absolute. Messages name it.
	path string
	// files tell whether the path still leads to the file that is open.
	files *files
	// now is [Options.Now]. Some statements, the defaults of columns and the triggers have SQLite's
	// own clock.
	now func() time.Time
	// writer has one connection, since SQLite has one writer at a time. Waiting for that
	// connection is fair and honours a context. Polling for the lock of the file does not.
	writer *sql.DB
	// readers has up to maxReaders connections, on which SQLite refuses to write.
	readers *sql.DB
	// seen is the place in the change log that a feed has seen. See [Store.checkHistory].
	seen  store.Seen
	calls observe.Calls

	// mu guards closed and feeds.
	mu     sync.Mutex
	closed bool
	// running counts the calls, for which Close waits. It is added to under mu while closed is
	// false, so that it cannot grow once Close waits.
	running sync.WaitGroup
	// feeds are those that are open, to be woken by a write. Close does not close a feed.
	feeds map[*feed]struct{}
	// close runs closeAll once, and returns the same error each time.
	close func() error
}

// Path returns the file's absolute path.
func (s *Store) Path() string { return s.path }

// Observe implements [observe.Observed].
func (s *Store) Observe(meter observe.Meter) { s.calls.Observe(meter) }

// Close implements [store.Store].
func (s *Store) Close() error { return s.close() }

// closeAll lets no call begin any more, waits for those that run, and closes the connections.
// The last connection to close puts the log into the file and deletes the log.
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
//
// What names the call in errors. The errors are those of explain, [store.ErrClosed],
// [store.ErrReplaced], [store.ErrOtherHistory], and those of do.
func (s *Store) write(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	return s.writeUnchecked(ctx, what, func(tx *sql.Tx) error {
		if err := s.checkHistory(ctx, tx); err != nil {
			return err
		}
		return do(tx)
	})
}

// writeUnchecked is [Store.write] for a feed, which must find out which history there is. A turn
// cannot compare the history with the one that was seen before: after a restore it would never
// learn the new one.
func (s *Store) writeUnchecked(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	err := s.transact(ctx, s.writer, what, do)
	if err == nil {
		s.wakeFeeds()
	}
	return err
}

// exec runs one statement by [Store.write] and returns how many rows have changed. The statement
// is a transaction of its own.
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

// changed returns how many rows a statement has changed. Rows that a trigger has changed do not
// count.
func changed(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// collect returns all rows of a query, and nil if there are none. An error of scan ends the
// reading and is returned.
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

// read runs do in a transaction that sees one state of the database. The state is that of its
// first statement. A later commit of a writer does not show.
func (s *Store) read(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	return s.transact(ctx, s.readers, what, do)
}

// readFollowed is [Store.read], and checks that the database has the history that the feed has
// seen. A backup may have been restored into the open file, which the check of the files does not
// see. If the history differs, the idle connections are closed, and the call is made once more;
// see [store.Seen.Believe].
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

// checkHistory returns [store.ErrOtherHistory] if the place that the feed has seen is not in the
// log. While no feed has seen a place, there is nothing to compare, and the error is nil. The
// rev and the random tag together are in one history alone.
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
// reports success for a commit to a file that was replaced. It counts as a running call. A read
// needs no check before: the check afterwards finds a file that was replaced, and then the
// result is not used.
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

// inTransaction begins a transaction of the kind that the connection was opened with. That is
// IMMEDIATE for the writer: it has the lock before the first statement. It is DEFERRED for
// readers (https://sqlite.org/lang_transaction.html section 2.2).
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

// explain turns SQLite's result codes into errors that say what to do. The messages of SQLite
// name columns and constraints, never values. A value that is taken is [store.ErrConflict],
// whatever the statement was.
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

// isBusy reports whether another connection has the lock. SQLITE_BUSY has extended codes, such
// as SQLITE_BUSY_SNAPSHOT, which share its low byte.
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
