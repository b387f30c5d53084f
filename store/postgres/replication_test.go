package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAStandbyGrantsNoLease asks a server that became a standby between two turns,
// and one that was a standby from the start.
func TestAStandbyGrantsNoLease(t *testing.T) {
	t.Parallel()
	s, server, dsn := private(t)
	feed := follow(t, s)
	member := store.ID{7}
	if err := feed.Join(t.Context(), &store.Member{ID: member, TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	demote(t, server)
	if _, err := feed.Renew(t.Context(), &store.Turn{Member: member, Limit: 1}); err == nil {
		t.Error("a session of before was renewed")
	}
	s = open(t, dsn)
	feed, err := s.Follow(t.Context())
	if err == nil {
		defer func() { _ = feed.Close() }()
		view, renewing := feed.Renew(t.Context(), &store.Turn{Member: member, Limit: 1})
		if renewing == nil && !view.Standby {
			t.Errorf("a standby has renewed: %+v", view)
		}
		err = renewing
	}
	if err != nil && !errors.Is(err, store.ErrStandby) {
		t.Errorf("a standby is told as %v", err)
	}
	if _, err := s.Progress(t.Context(), nil, nil); !errors.Is(err, store.ErrStandby) {
		t.Errorf("a standby says who the members are: %v", err)
	}
	if _, err := s.Barrier(t.Context()); !errors.Is(err, store.ErrStandby) {
		t.Errorf("a standby has a barrier: %v", err)
	}
	if _, err := s.Adopted(t.Context(), nil); !errors.Is(err, store.ErrStandby) {
		t.Errorf("a standby says that a key was not adopted: %v", err)
	}
	if _, _, err := s.Unadopted(t.Context(), nil, time.Now(), 1); !errors.Is(err, store.ErrStandby) {
		t.Errorf("a standby says that there is no key to adopt: %v", err)
	}
}

// TestACancelledWaitForStandbysIsNoSuccess cancels the wait for a standby that
// never comes. The server then reports success, with a warning.
func TestACancelledWaitForStandbysIsNoSuccess(t *testing.T) {
	t.Parallel()
	s, _, dsn := private(t)
	key := sample(t, s, "to be revoked")
	feed := follow(t, s)
	member := store.ID{7}
	if err := feed.Join(t.Context(), &store.Member{ID: member, TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	control := connect(t, dsn)
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"} {
		if _, err := control.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	// The checkpointer tells the others, in its own time.
	prober := connect(t, dsn)
	for n, cancelled := 0, 0; cancelled == 0; n++ {
		if n == 1000 {
			t.Fatal("no commit waits for a standby")
		}
		cancelled, _ = cancelWait(t, control, func() error {
			_, err := prober.Exec(t.Context(), fmt.Sprintf("CREATE TABLE probe%d ()", n))
			return err
		})
	}
	during := func(call func(store.Feed) error) error {
		feed, err := s.Follow(t.Context())
		if err != nil {
			t.Errorf("no feed: %v", err)
			return err
		}
		defer func() { _ = feed.Close() }()
		return call(feed)
	}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"a deletion", func() error { _, err := s.DeleteKey(t.Context(), key.ID, nil); return err }},
		{"keys that are added", func() error {
			return s.AddKeys(t.Context(), func(add func([]store.Key) error) error {
				return add([]store.Key{{ID: store.ID{9}, Label: "added", Hash: "$argon2id$added", CreatedAt: time.Now(), CreatedBy: "import"}})
			})
		}},
		{"a barrier", func() error { _, err := s.Barrier(t.Context()); return err }},
		{"a member", func() error {
			return during(func(feed store.Feed) error {
				return feed.Join(t.Context(), &store.Member{ID: store.ID{8}, TTL: time.Second})
			})
		}},
		{"a renewal", func() error {
			return during(func(feed store.Feed) error {
				_, err := feed.Renew(t.Context(), &store.Turn{Member: member, Limit: 1})
				return err
			})
		}},
	} {
		cancelled, err := cancelWait(t, control, c.call)
		if err == nil {
			t.Errorf("%s succeeded, and no standby has it", c.name)
		}
		if cancelled == 0 {
			t.Errorf("%s did not wait for a standby", c.name)
		}
	}
	// A session that was opened before says that the setting is another now.
	if _, err := feed.Renew(t.Context(), &store.Turn{Member: member, Limit: 1}); err == nil {
		t.Error("a session of before has renewed without waiting")
	}
}

// cancelWait has a call's waits for standbys cancelled, and says how many there
// were.
func cancelWait(tb testing.TB, control *pgx.Conn, call func() error) (cancelled int, err error) {
	tb.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	for {
		select {
		case err := <-done:
			return cancelled, err
		case <-time.After(20 * time.Millisecond):
		}
		const cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
		var n int
		if err := control.QueryRow(tb.Context(), cancel).Scan(&n); err != nil {
			tb.Fatal(err)
		}
		cancelled += n
	}
}

// TestWhatASubscriberAppliesIsLogged deletes a key in another database, from which
// PostgreSQL's logical replication applies it here: as a row, without a statement.
func TestWhatASubscriberAppliesIsLogged(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.Setting("wal_level", "logical"))
	theirs, ours := server.Database(), server.Database()
	s := open(t, ours)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := sample(t, s, "here and there")
	execute(t, theirs, "CREATE TABLE system_keys (id uuid PRIMARY KEY); CREATE PUBLICATION keys FOR TABLE system_keys")
	execute(t, theirs, "INSERT INTO system_keys VALUES ($1)", key.ID.String())
	execute(t, theirs, "SELECT pg_create_logical_replication_slot('keys', 'pgoutput')")
	// A subscription within one server cannot make its slot: it would wait for itself.
	execute(t, ours, "CREATE SUBSCRIPTION keys CONNECTION '"+theirs+"' PUBLICATION keys WITH (create_slot = false, copy_data = false)")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), ours)
		if err != nil {
			return // the server has ended, and with it all this
		}
		_, _ = conn.Exec(context.Background(), "DROP SUBSCRIPTION keys")
		_ = conn.Close(context.Background())
	})
	feed := follow(t, s)
	head := pull(t, feed, store.Position{}).Head

	execute(t, theirs, "DELETE FROM system_keys")
	for began := time.Now(); kinds(t, feed, head) != "d"; {
		if time.Since(began) > time.Minute {
			t.Fatalf("the log has %q", kinds(t, feed, head))
		}
		if err := feed.Wait(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Audit(t.Context(), &store.AuditQuery{Key: key.ID, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(page.Records); n != 1 || page.Records[0].Event != store.AuditRevoked {
		t.Errorf("the audit log has %d records of the key: %+v", n, page.Records)
	}
}
