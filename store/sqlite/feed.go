package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// pollInterval is how often a feed that waits checks whether another process has written. A check
// is one PRAGMA, and a look at the names of three files.
const pollInterval = 20 * time.Millisecond

// feed is a [store.Feed]. It has a connection of its own: for each connection, SQLite counts
// the commits of all other connections
// (https://sqlite.org/pragma.html#pragma_data_version).
type feed struct {
	store *Store
	db    *sql.DB
	conn  *sql.Conn
	// hints has room for one hint. One is enough, since Wait looks at the log after it.
	hints chan struct{} // this process has written
	// close runs closeAll once, and returns the same error each time.
	close func() error

	version int64 // the data version that was read last
	head    int64 // the newest rev that was seen
}

// Follow implements [store.Store].
//
// The connection can only read: turns go through the connections of the store.
func (s *Store) Follow(ctx context.Context) (store.Feed, error) {
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("follow changes: %w", err)
	}
	defer s.running.Done()
	if err := s.files.check(); err != nil {
		return nil, fmt.Errorf("follow changes: %w", err)
	}
	db, err := connect(s.path, url.Values{"_pragma": {"query_only(1)"}}, 1)
	if err != nil {
		return nil, fmt.Errorf("follow changes: %w", err)
	}
	f := &feed{store: s, db: db, hints: make(chan struct{}, 1)}
	f.close = sync.OnceValue(f.closeAll)
	if f.conn, err = db.Conn(ctx); err == nil {
		_, err = f.hasNews(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("follow changes: %w", errors.Join(s.explain(ctx, err), f.Close()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds == nil {
		s.feeds = make(map[*feed]struct{})
	}
	s.feeds[f] = struct{}{}
	return f, nil
}

// wakeFeeds tells the feeds of this store that something was written. It never waits: a feed
// that has a hint already needs no second one.
func (s *Store) wakeFeeds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.feeds {
		select {
		case f.hints <- struct{}{}:
		default:
		}
	}
}

// Close implements [store.Feed].
func (f *feed) Close() error { return f.close() }

// closeAll takes the feed out of the store, so that nobody wakes it any more, and closes its
// connection and the pool of that.
func (f *feed) closeAll() error {
	f.store.mu.Lock()
	delete(f.store.feeds, f)
	f.store.mu.Unlock()
	var err error
	if f.conn != nil {
		err = f.conn.Close()
	}
	return errors.Join(err, f.db.Close())
}

// Wait implements [store.Feed].
//
// It returns nil after a change, at the end of patience, and when the context ends. The errors are
// those of the connection, and [store.ErrReplaced].
func (f *feed) Wait(ctx context.Context, patience time.Duration) error {
	over := time.NewTimer(patience)
	defer over.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		news, err := f.hasNews(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("wait for changes: %w", f.store.explain(ctx, err))
		case news:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-over.C:
			return nil
		case <-f.hints:
		case <-poll.C:
		}
	}
}

// hasNews reports whether the change log has grown, or will grow at the next renewal because
// keys were inserted. Most writes are last uses and heartbeats, which do not matter here.
func (f *feed) hasNews(ctx context.Context) (bool, error) {
	version, err := f.dataVersion(ctx)
	if lost := f.store.files.check(); lost != nil {
		return false, lost
	}
	if err != nil || version == f.version {
		return false, err
	}
	var head int64
	const grown = "SELECT max(rev) + (SELECT inserted FROM key_count) FROM change_log"
	if err := f.conn.QueryRowContext(ctx, grown).Scan(&head); err != nil {
		return false, err
	}
	f.version = version
	news := head != f.head
	f.head = head
	return news, nil
}

// dataVersion returns a number that changes when another connection commits. It says nothing about
// commits on this connection, which makes none.
func (f *feed) dataVersion(ctx context.Context) (version int64, err error) {
	err = f.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}

// Join implements [store.Feed]. It goes past the check of the history, as the turns do.
func (f *feed) Join(ctx context.Context, m *store.Member) error {
	member, err := m.Clean()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return f.store.writeUnchecked(ctx, "join", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO member (id, ttl_ms, name, joined_at) VALUES (?, ?, ?, ?)",
			// Several members can join in one millisecond, and SQLite's own clock is no
			// finer.
			member.ID.String(), member.TTL.Milliseconds(), member.Name, f.store.now().UnixMicro())
		return err
	})
}

var _ store.Feed = (*feed)(nil)
