package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAFeedBehindAPoolerOpensInTheTimeOfAShortLease opens one in the second that an
// instance with a lease of two seconds or less gives it.
func TestAFeedBehindAPoolerOpensInTheTimeOfAShortLease(t *testing.T) {
	t.Parallel()
	_, server, dsn := private(t)
	pooler := testenv.StartPooler(t, server)
	s := open(t, "postgres://postgres@"+pooler.Addr()+mustPath(t, dsn)+"?sslmode=disable")
	var feed store.Feed
	eventually(t, "a feed is open", func() (ok bool) {
		opening, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var err error
		feed, err = s.Follow(opening)
		return err == nil
	})
	defer feed.Close()
	member := &store.Member{ID: store.ID{1}, TTL: store.MinTTL}
	if err := feed.Join(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	if view, err := feed.Renew(t.Context(), &store.Turn{Member: member.ID, Limit: 1}); err != nil || !view.Member {
		t.Errorf("the turn is %+v, %v", view, err)
	}
}

// TestASchemaOfItsOwnWorksBehindAPooler has one that lends a connection for each transaction,
// so that a setting of a session would be lost, and one that lends it for a session. That one
// has five connections, and the store takes no more.
func TestASchemaOfItsOwnWorksBehindAPooler(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	for mode, options := range map[string]string{"transaction": "", "session": "&pool_max_conns=4"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			pooler := testenv.StartPooler(t, server, testenv.Setting("pool_mode", mode))
			worksBehind(t, "postgres://postgres@"+pooler.Addr()+mustPath(t, server.Database())+"?sslmode=disable"+options)
		})
	}
}

func worksBehind(t *testing.T, dsn string) {
	t.Helper()
	s := openIn(t, dsn, oddName)
	eventually(t, "the store is migrated", func() bool { return s.Migrate(t.Context()) == nil })
	key := sample(t, s, "pooled")
	found(t, s, "POOL", 1)
	feed := follow(t, s)
	head := pull(t, feed, store.Position{}).Head
	if _, err := s.DeleteKey(t.Context(), key.ID, nil); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, feed, head); got != "d" {
		t.Errorf("the feed has seen %q", got)
	}
}

// TestAReadOnlyRoleIsNoStandby has a primary on which somebody has made sessions
// read-only.
func TestAReadOnlyRoleIsNoStandby(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	execute(t, dsn, "ALTER DATABASE "+strings.TrimPrefix(mustPath(t, dsn), "/")+" SET default_transaction_read_only = on")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dsn)
	feed, err := s.Follow(t.Context())
	if err == nil || !strings.Contains(err.Error(), "default_transaction_read_only") || !strings.Contains(err.Error(), "no standby") {
		t.Errorf("Follow = %v, %v", feed, err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate, which has nothing to do: %v", err)
	}
}
