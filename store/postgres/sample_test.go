package postgres_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// hash is a PHC string of the right form that belongs to no key.
const hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"

// migrated opens a store in a database of its own.
func migrated(tb testing.TB) (*postgres.Store, string) {
	tb.Helper()
	dsn := testenv.Database(tb)
	s := open(tb, dsn)
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s, dsn
}

// private opens a store on a server that its test may stop.
func private(tb testing.TB) (*postgres.Store, *testenv.Postgres, string) {
	tb.Helper()
	server := testenv.StartPostgres(tb)
	dsn := server.Database()
	s := open(tb, dsn)
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s, server, dsn
}

// demote makes a standby of the server, without a primary. A clean shutdown with
// this file beside it does so (PostgreSQL's manual, section 27.2.4).
func demote(tb testing.TB, server *testenv.Postgres) {
	tb.Helper()
	server.Stop()
	if err := os.WriteFile(filepath.Join(server.Folder(), "data", "standby.signal"), nil, 0o644); err != nil {
		tb.Fatal(err)
	}
	server.Start()
}

// sample creates a key whose id begins with the label, and returns it.
func sample(tb testing.TB, s store.Store, label string) *store.Key {
	tb.Helper()
	key := &store.Key{
		Label: label, Hash: hash, Permissions: []string{},
		CreatedAt: time.UnixMicro(1_800_000_000_000_000).UTC(), CreatedBy: "test",
	}
	copy(key.ID[:], label)
	if err := s.CreateKey(tb.Context(), key, nil); err != nil {
		tb.Fatal(err)
	}
	return key
}

// found checks how many keys a search finds and counts.
func found(tb testing.TB, s store.Store, search string, want int) {
	tb.Helper()
	page, err := s.Keys(tb.Context(), &store.KeyQuery{Limit: 100, Sort: store.SortLabel, Search: search})
	if err != nil {
		tb.Fatal(err)
	}
	if page.Total != want || len(page.Keys) != want {
		tb.Errorf("search %q finds %d and counts %d, want %d", search, len(page.Keys), page.Total, want)
	}
}
