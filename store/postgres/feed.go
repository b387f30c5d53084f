package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of a feed.
const (
	// probeTimeout bounds the wait for the notification by which a new feed finds out
	// whether notifications arrive. The wait takes at most one part in probeShare of the
	// time that is left to open the feed.
	probeTimeout = time.Second
	probeShare   = 4
	// pollInterval is how often a feed without notifications reads the log.
	pollInterval = 250 * time.Millisecond
	// closeTimeout bounds the goodbye to a server that may not answer any more.
	closeTimeout = time.Second
)

// feed is a [store.Feed] on a connection of its own. Turns and notifications use the same
// connection, so each answered turn shows that notifications can arrive.
type feed struct {
	store    *Store
	conn     *pgx.Conn
	db       *database // on the connection
	polls    bool      // no notifications arrive, as behind a pooler
	notified bool      // a notification has arrived since the last wait
	standby  string    // synchronous_standby_names when it was opened
	close    func() error
}

// Follow implements [store.Store].
func (s *Store) Follow(ctx context.Context) (store.Feed, error) {
	f, err := s.follow(ctx)
	if err != nil {
		return nil, explain("follow changes", err)
	}
	return f, nil
}

// follow opens a connection beside the pool. What is set for its session reaches no other call.
// After an error it is closed again.
func (s *Store) follow(ctx context.Context) (_ *feed, err error) {
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	db, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	f := &feed{store: s}
	config := s.pool.Config().ConnConfig.Copy()
	// One reading of the log serves all notifications that have arrived before it. 10,000 keys
	// that are minted are 10,000 notifications. pgx calls this on the goroutine that reads from
	// the connection, so no lock is needed.
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { f.notified = true }
	if f.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, err
	}
	f.db = db.on(f.conn)
	f.close = sync.OnceValue(f.closeConn)
	if err := f.open(ctx); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// errReadOnly means that a server is a primary on which sessions are read-only by
// configuration.
var errReadOnly = fmt.Errorf("%w: default_transaction_read_only is set, for the role, the database or the server, "+
	"and the server is no standby", store.ErrStandby)

// open checks the server and sets up the session. One statement reads all that is needed, so
// that opening takes few round trips.
func (f *feed) open(ctx context.Context) error {
	var origin, isolation string
	var rev int64
	var readOnly bool
	err := f.db.QueryRow(ctx, "SELECT max(rev), current_setting('default_transaction_isolation'), "+
		"current_setting('synchronous_standby_names'), "+
		"current_setting('transaction_read_only')::bool AND NOT pg_is_in_recovery(), {origin}"+
		" FROM {own}.change_log").Scan(&rev, &isolation, &f.standby, &readOnly, &origin)
	if err != nil {
		return err
	}
	if readOnly { // a standby is found at the first turn
		return errReadOnly
	}
	f.store.renewPool(origin) // before listen sends a notification, which must come from this server
	if err := f.listen(ctx); err != nil || f.polls {
		return err // a pooler would pass the settings of the session on to other clients
	}
	if isolation != "read committed" {
		// Under a stricter level, turns of several instances would make each other fail.
		if _, err := f.conn.Exec(ctx, "SET default_transaction_isolation = 'read committed'"); err != nil {
			return err
		}
	}
	if f.standby != "" {
		return nil
	}
	// A renewal that a crash loses does no harm, since its heartbeat is lost too. With
	// standbys a renewal must wait for them, so that an old primary that was cut off
	// grants no leases.
	_, err = f.conn.Exec(ctx, "SET synchronous_commit = off")
	return err
}

// listen finds out whether notifications from another session arrive. A notification from its
// own session would prove nothing: a pooler that lends a connection for each statement passes on
// whatever arrives during that statement. LISTEN comes before the notification is sent, so it
// cannot be missed. If none arrives in time, the feed polls, and no error is returned.
func (f *feed) listen(ctx context.Context) error {
	if _, err := f.db.Exec(ctx, "LISTEN system_keys{mark}"); err != nil {
		return err
	}
	if _, err := f.db.on(f.store.pool).Exec(ctx, "SELECT pg_notify('system_keys{mark}', '')"); err != nil {
		return err
	}
	patience := probeTimeout
	if end, bounded := ctx.Deadline(); bounded {
		patience = min(patience, time.Until(end)/probeShare)
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f.notification(waiting)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		f.polls = true
		return nil
	}
	return err
}

// Close implements [store.Feed].
func (f *feed) Close() error { return f.close() }

// closeConn has a context of its own, since that of the caller may have ended.
func (f *feed) closeConn() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return f.conn.Close(ctx)
}

// Wait implements [store.Feed].
//
// A feed that polls returns after pollInterval at most, whether there is news or not. Any
// notification ends the wait of another one, also that of the instance's own write.
func (f *feed) Wait(ctx context.Context, patience time.Duration) error {
	if f.conn.IsClosed() {
		return explain("wait for changes", errors.New("the session has ended"))
	}
	if f.polls {
		select {
		case <-ctx.Done():
		case <-time.After(min(patience, pollInterval)):
		}
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f.notification(waiting)
	if err != nil && waiting.Err() != nil && !f.conn.IsClosed() {
		return nil
	}
	return explain("wait for changes", err)
}

// notification waits for a notification, unless one has arrived since the last call. One that
// arrives while a statement runs may be about a change that the statement does not see. The
// feed's goroutine alone calls it, so notified needs no lock.
func (f *feed) notification(ctx context.Context) (err error) {
	if !f.notified {
		err = f.conn.PgConn().WaitForNotification(ctx)
	}
	f.notified = false
	return err
}

// Join implements [store.Feed].
//
// The insert waits for the disk, even if the session is set not to. If the server waits for
// standbys, it does that too. A member that is lost could hold a lease that a revocation does not
// wait for.
func (f *feed) Join(ctx context.Context, m *store.Member) error {
	member, err := m.Clean()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	standbys := watchStandbys(f.conn)
	_, err = f.db.Exec(ctx, "INSERT INTO {own}.member (id, beat, ttl_ms, name) "+
		"SELECT $1, {own}.random_tag(), $2, $3 WHERE "+durable,
		uuid(member.ID), member.TTL.Milliseconds(), member.Name)
	if err == nil {
		err = standbys.err()
	}
	return explain("join", conflict(err))
}

var _ store.Feed = (*feed)(nil)
