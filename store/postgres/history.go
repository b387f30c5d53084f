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

// atPlace is a condition of a statement: the place that the feed has seen is in the server's
// log. The arguments n and n+1 are its rev and tag. If the rev is 0 no place was seen, and
// the condition is true.
func atPlace(n int) string {
	return fmt.Sprintf("(EXISTS (SELECT FROM {own}.change_log WHERE rev = $%d AND tag = $%d) OR $%d = 0)", n, n+1, n)
}

// followed is atPlace, and also requires that the server's origin is the argument n+2. If
// that argument is empty, the origin is not known and not compared. The place alone is
// enough for data whose changes are logged: if nothing was logged since two histories
// parted, the place is in both of them, and the rows are the same.
func followed(n int) string {
	return fmt.Sprintf("(%s AND ({origin} = $%d OR $%d = ''))", atPlace(n), n+2, n+2)
}

// seenArguments returns the arguments of followed. The first two are those of atPlace.
func (s *Store) seenArguments() []any {
	origin, place := s.seen.History()
	return []any{place.Rev, place.Tag, origin}
}

// callFollowed makes a call whose statement has the condition atPlace or followed. If the server
// has another history, it makes the call again on new connections. That error says that nothing
// was changed, so the second call does no harm.
func (s *Store) callFollowed(call func() error) error { return s.seen.Believe(s.pool.Reset, call) }

// note keeps the place and the origin of a view that a feed has read. A standby says nothing
// about the history that is followed.
func (s *Store) note(view *store.View, renewed bool) {
	s.seen.Note(view, renewed)
	if !view.Standby {
		s.renewPool(view.Origin)
	}
}

// renewPool replaces the connections of the pool when the feed has reached a server of another
// origin. Otherwise connections to an old server that still runs could stay for as long as
// pool_max_conn_lifetime. The first origin renews nothing. Connections in use are closed when they
// come back to the pool.
func (s *Store) renewPool(origin string) {
	old := s.poolOrigin.Load()
	if old != nil && *old == origin {
		return
	}
	if s.poolOrigin.Swap(&origin); old != nil {
		s.pool.Reset()
	}
}

// retry makes a call that changes something by callFollowed. It repeats the call if the server
// has rolled it back in favour of another transaction. Other services may lock rows in
// another order than we do, and then wait for us in a circle.
func (s *Store) retry(call func() error) (err error) {
	for range attempts {
		err = s.callFollowed(call)
		if code := code(err); code != deadlockDetected && code != serializationFailure {
			break
		}
	}
	return err
}

// attempts is how often retry makes a call at most. The last error is returned.
const attempts = 5

// transact runs do in a transaction on the server that is followed. It commits the transaction
// unless do returns an error. Do may be called again; see [Store.retry]. The check of the
// history is the first statement of the transaction. Nothing is changed on a server that fails
// it.
func (s *Store) transact(ctx context.Context, do func(tx *database) error) error {
	return s.retry(func() error { return s.attempt(ctx, do, false) })
}

// durably is [Store.transact], and returns an error if the commit has not reached the standbys
// that the server should have waited for. Such a commit is visible on this server, so a call
// that is repeated may find its own work.
func (s *Store) durably(ctx context.Context, do func(tx *database) error) error {
	return s.retry(func() error { return s.attempt(ctx, do, true) })
}

// patiently is [Store.durably] for a transaction that reads from elsewhere, and may be idle for
// as long as that takes. Do is called once.
func (s *Store) patiently(ctx context.Context, do func(tx *database) error) error {
	return s.attempt(ctx, func(tx *database) error {
		if _, err := tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
			return err
		}
		return do(tx)
	}, true)
}

// exec runs one statement by [Store.transact].
func (s *Store) exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	return sqlstore.Result(ctx, s.transact, func(tx *database) (pgconn.CommandTag, error) { return tx.Exec(ctx, statement, args...) })
}

// execDurably runs one statement by [Store.durably].
func (s *Store) execDurably(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	return sqlstore.Result(ctx, s.durably, func(tx *database) (pgconn.CommandTag, error) { return tx.Exec(ctx, statement, args...) })
}

// transaction begins a transaction in one round trip. It sets the isolation level, since the
// default of the database may be another one. Under that one, a transaction that has waited
// for a lock would get a serialization failure.
//
// The server ends a transaction that is idle for long. A process that is paused or cut off
// between two statements would keep its locks, and the revocation of a key would wait for
// them without end.
var transaction = pgx.TxOptions{
	BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '5s'",
}

// attempt is one transaction on one connection of the pool. The connection goes back to the pool
// in any case. The origin is kept only after the commit.
func (s *Store) attempt(ctx context.Context, do func(tx *database) error, durable bool) error {
	db, err := s.database(ctx)
	if err != nil {
		return err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// A mark of an earlier commit on this connection would be taken for one of this commit.
	standbys := watchStandbys(conn.Conn())
	begun, err := conn.BeginTx(ctx, transaction)
	if err != nil {
		return err
	}
	defer func() { _ = begun.Rollback(ctx) }() // after the commit it does nothing
	tx := db.on(begun)
	server, err := scanChecked(tx.QueryRow(ctx, "SELECT "+serverColumns(1), s.seenArguments()...))
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	if err := begun.Commit(ctx); err != nil {
		return err
	}
	s.seen.Committed(server)
	if durable {
		return standbys.err()
	}
	return nil
}

// readFollowed makes a call that changes nothing, on the server that is followed. The call
// checks the history itself, in the statement that reads: a look before would be another moment,
// and maybe another connection.
func (s *Store) readFollowed(ctx context.Context, call func(db *database) error) error {
	db, err := s.database(ctx)
	if err != nil {
		return err
	}
	return s.callFollowed(func() error { return call(db) })
}

// serverColumns are the columns that scanChecked reads: the server's role, its origin, and
// whether it has the history that is followed. The arguments from n are seenArguments.
func serverColumns(n int) string {
	return "pg_is_in_recovery(), {origin}, " + followed(n)
}

// scanChecked reads serverColumns and checks them. More are the destinations of the columns
// after those.
func scanChecked(row pgx.Row, more ...any) (origin string, err error) {
	var standby, followed bool
	err = row.Scan(append([]any{&standby, &origin, &followed}, more...)...)
	return origin, checkAnswer(err, standby, followed, true)
}

// checkedRow is a row that begins with serverColumns. Scan checks those columns, keeps the
// origin unless that is nil, and reads the columns after them.
type checkedRow struct {
	row    sqlstore.Row
	origin *string
}

// Scan implements [sqlstore.Row].
func (r checkedRow) Scan(dest ...any) error {
	origin, err := scanChecked(r.row, dest...)
	if r.origin != nil {
		*r.origin = origin
	}
	return err
}

// checkAnswer returns an error if the answer of a server cannot be trusted. "Not found" counts
// only if it comes from a primary whose history is followed.
//
// The order matters: a standby is told as one even if it lags behind, and the history is compared
// before a row that is not there counts. The errors are [store.ErrStandby],
// [store.ErrOtherHistory] and [store.ErrNotFound].
func checkAnswer(err error, standby, followed, found bool) error {
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

// origins are SQL expressions that name a server's history, the best first. A copy of a
// database cluster has the same system identifier, and gets another timeline when it is
// promoted. A server may not have these functions, or may not let a plain role call them.
// The last expression names nothing: only the place in the log is compared then.
var origins = []string{
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE (SELECT system_identifier FROM pg_control_system())::text " +
		"|| '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"''",
}

// unnameable are the error codes of a server that does not allow such an expression.
var unnameable = []string{insufficientPrivilege, featureNotSupported, undefinedFunction}

// originOf returns the best of the origins that this role may use. All parts of the store use
// the same expression.
func originOf(ctx context.Context, db runner) (string, error) {
	for _, expression := range origins {
		var value string
		err := db.QueryRow(ctx, "SELECT "+expression).Scan(&value)
		if !slices.Contains(unnameable, code(err)) {
			return expression, err
		}
	}
	return origins[len(origins)-1], nil
}

// errUnreplicated means that a transaction was committed on this server, and that somebody
// has cancelled the wait for its standbys. The server reports success then, with a warning
// (src/backend/replication/syncrep.c). A failover may lose the change.
var errUnreplicated = errors.New("the wait for synchronous replication was cancelled: the outcome is not known")

// unreplicated marks a connection on which a wait for standbys was cancelled.
const unreplicated = "unreplicated"

// onNotice marks a connection when the server warns of a cancelled wait. The name of the C function
// is in every such notice, in whatever language its text is.
func onNotice(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.Routine == "SyncRepWaitForLSN" {
		conn.CustomData()[unreplicated] = true
	}
}

// standbys reports whether a commit on a connection has reached the standbys. The map is the one
// that pgx keeps for a connection. Only its user reads and writes it.
type standbys map[string]any

// watchStandbys clears the mark of a connection. Call it before the commit.
func watchStandbys(conn *pgx.Conn) standbys {
	marks := conn.PgConn().CustomData()
	delete(marks, unreplicated)
	return marks
}

// err returns an error if the wait for standbys was cancelled since watchStandbys.
func (s standbys) err() error {
	if s[unreplicated] != nil {
		return errUnreplicated
	}
	return nil
}
