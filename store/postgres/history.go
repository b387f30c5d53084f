package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// atPlace is a condition of a statement: that the place whose rev and tag are the
// n-th argument and the one after it is in the server's log, or that none was seen.
func atPlace(n int) string {
	return fmt.Sprintf("(EXISTS (SELECT FROM sidecar.change_log WHERE rev = $%d AND tag = $%d) OR $%d = 0)", n, n+1, n)
}

// followed is atPlace, and that the server's origin is the argument after those, or
// that this is not known. The place alone does for what is logged: where nothing
// was logged since the fork it is in both histories, and a row is the same in both.
func followed(origin string, n int) string {
	return fmt.Sprintf("(%s AND (%s = $%d OR $%d = ''))", atPlace(n), origin, n+2, n+2)
}

// seenArguments are those of followed. The first two are those of atPlace.
func (s *Store) seenArguments() []any {
	origin, place := s.seen.History()
	return []any{place.Rev, place.Tag, origin}
}

// believe makes a call whose statement asks for what the feed has seen.
func (s *Store) believe(call func() error) error { return s.seen.Believe(s.pool.Reset, call) }

// note takes in what a feed was told.
func (s *Store) note(view *store.View, renewed bool) {
	s.seen.Note(view, renewed)
	if !view.Standby {
		s.align(view.Origin)
	}
}

// align makes the pool's connections anew when the feed has got to a server of
// another origin. Nothing would end them while the old server is there.
func (s *Store) align(origin string) {
	old := s.aligned.Load()
	if old != nil && *old == origin {
		return
	}
	if s.aligned.Swap(&origin); old != nil {
		s.pool.Reset()
	}
}

// again makes a call that changes something, as believe does, and repeats it if the
// server undid it in favour of another one: services that lock rows in an order of
// their own can wait for us in a circle.
func (s *Store) again(call func() error) (err error) {
	for range attempts {
		err = s.believe(call)
		if code := code(err); code != deadlockDetected && code != serializationFailure {
			break
		}
	}
	return err
}

// attempts is how often a transaction is tried that keeps losing to others.
const attempts = 5

// transact runs do in a transaction on the server that is followed, and commits it
// unless do returns an error. Do may be called again; see [Store.again].
func (s *Store) transact(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.again(func() error { return s.attempt(ctx, do, false) })
}

// durably is transact, and fails if what it has committed is not where it should be.
func (s *Store) durably(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.again(func() error { return s.attempt(ctx, do, true) })
}

// exec runs one statement as transact does.
func (s *Store) exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	return sqlstore.Result(ctx, s.transact, func(tx pgx.Tx) (pgconn.CommandTag, error) { return tx.Exec(ctx, statement, args...) })
}

// execDurably runs one statement as durably does.
func (s *Store) execDurably(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	return sqlstore.Result(ctx, s.durably, func(tx pgx.Tx) (pgconn.CommandTag, error) { return tx.Exec(ctx, statement, args...) })
}

// transaction begins in one round trip. The level is set because a database can have another
// default, under which who waited for a lock gets a serialization failure for it.
//
// A transaction may not be idle for long: a process that is paused or cut off
// between two statements would hold its locks, and who revokes a key would wait for
// it without end. So the server ends the transaction then.
var transaction = pgx.TxOptions{
	BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '5s'",
}

func (s *Store) attempt(ctx context.Context, do func(tx pgx.Tx) error, durable bool) error {
	origin, err := s.origin(ctx)
	if err != nil {
		return err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	standbys := watchStandbys(conn.Conn())
	tx, err := conn.BeginTx(ctx, transaction)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // after the commit it does nothing
	at, err := checked(tx.QueryRow(ctx, "SELECT "+self(origin, 1), s.seenArguments()...))
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	s.seen.Committed(at)
	if durable {
		return standbys.err()
	}
	return nil
}

// there makes a call that changes nothing with the expression of the origin, on the
// server that is followed.
func (s *Store) there(ctx context.Context, call func(origin string) error) error {
	origin, err := s.origin(ctx)
	if err != nil {
		return err
	}
	return s.believe(func() error { return call(origin) })
}

// self are the columns by which a server says what it is.
func self(origin string, n int) string {
	return "pg_is_in_recovery(), " + origin + ", " + followed(origin, n)
}

// checked reads the columns of self, and what was selected after them into more.
func checked(row pgx.Row, more ...any) (origin string, err error) {
	var standby, followed bool
	err = row.Scan(append([]any{&standby, &origin, &followed}, more...)...)
	return origin, judge(err, standby, followed, true)
}

// checkedRow is a row without the columns of self, which it checks.
type checkedRow struct{ row sqlstore.Row }

// Scan implements [sqlstore.Row].
func (r checkedRow) Scan(dest ...any) error {
	_, err := checked(r.row, dest...)
	return err
}

// judge says what the answer of a server is worth. That something was not found counts
// only on the word of a primary whose history is followed.
func judge(err error, standby, followed, found bool) error {
	switch {
	case err != nil:
		return err
	case standby:
		return store.ErrStandby
	case !followed:
		return store.ErrOtherHistory
	case !found:
		return store.ErrNotFound
	}
	return nil
}

// origins are what names a server's history, as an expression, the best first: a
// database cluster that was copied has the same identifier, and another timeline
// once it was promoted. A server may keep these functions from a plain role, or not
// have them. If nothing can be named, the place in the log has to do, and who follows
// says so.
var origins = []string{
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE (SELECT system_identifier FROM pg_control_system())::text " +
		"|| '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"''",
}

// unnameable are the codes of a server that does not let itself be named so.
var unnameable = []string{insufficientPrivilege, featureNotSupported, undefinedFunction}

// origin returns the best of the origins that this role may ask for. All parts
// of the store use the same.
func (s *Store) origin(ctx context.Context) (string, error) {
	if known := s.origins.Load(); known != nil {
		return *known, nil
	}
	for _, expression := range origins {
		var value string
		err := s.pool.QueryRow(ctx, "SELECT "+expression).Scan(&value)
		if slices.Contains(unnameable, code(err)) {
			continue
		}
		if err != nil {
			return "", err
		}
		s.origins.CompareAndSwap(nil, &expression)
		break
	}
	return *s.origins.Load(), nil
}

// errUnreplicated says that a transaction was committed here, and that the server
// was told not to wait for its standbys any longer. It reports success then, with
// a warning (src/backend/replication/syncrep.c): a failover may lose the change.
var errUnreplicated = errors.New("the wait for synchronous replication was cancelled: the outcome is not known")

// unreplicated marks a connection on which that has happened.
const unreplicated = "unreplicated"

func onNotice(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.Routine == "SyncRepWaitForLSN" {
		conn.CustomData()[unreplicated] = true
	}
}

// standbys tells whether a commit on a connection has reached its standbys.
type standbys map[string]any

// watchStandbys begins to look, before what is to be committed.
func watchStandbys(conn *pgx.Conn) standbys {
	marks := conn.PgConn().CustomData()
	delete(marks, unreplicated)
	return marks
}

// err makes success that is none an error.
func (s standbys) err() error {
	if s[unreplicated] != nil {
		return errUnreplicated
	}
	return nil
}
