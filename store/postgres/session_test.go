package postgres_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// signIn creates a session of a key that lasts for an hour.
func signIn(tb testing.TB, s store.Store, key *store.Key) (digest [32]byte) {
	tb.Helper()
	_, _ = rand.Read(digest[:])
	session := &store.Session{Digest: digest, Key: key.ID, ExpiresAt: time.Now().Add(time.Hour)}
	if err := s.CreateSession(tb.Context(), session); err != nil {
		tb.Fatal(err)
	}
	return digest
}

// signedIn reports whether a session is live.
func signedIn(tb testing.TB, s store.Store, digest [32]byte) bool {
	tb.Helper()
	_, err := s.Session(tb.Context(), digest, time.Now())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		tb.Fatal(err)
	}
	return err == nil
}

// TestPlainSQLEndsSessions brings the key back as it was each time, so that it is
// the session that is gone, and not only its key.
func TestPlainSQLEndsSessions(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	for _, c := range []struct {
		name, statements string
		ends             bool
	}{
		{"TRUNCATE", "TRUNCATE system_keys", true},
		{"a deletion as replica", "SET session_replication_role = replica; DELETE FROM system_keys WHERE label = 'admin'", true},
		{"another hash as replica", "SET session_replication_role = replica; UPDATE system_keys SET key_hash = key_hash || 'x'", true},
		{"another hash, and a permission with it", "UPDATE system_keys SET key_hash = key_hash || 'x', permissions = '{a:b}'", true},
		{"another hash for a moment", "UPDATE system_keys SET key_hash = key_hash || 'x'; UPDATE system_keys SET key_hash = '" + hash + "'", true},
		{"a deletion that is rolled back", "BEGIN; DELETE FROM system_keys; ROLLBACK", false},
		{"a permission and an expiry", "UPDATE system_keys SET permissions = '{a:b}', expires_at = now()", false},
		{"a last use", "UPDATE system_keys SET last_used_at = now()", false},
		{"a barrier", "CALL sidecar.barrier()", false},
		{"revoke", "CALL sidecar.revoke('61646d69-6e00-0000-0000-000000000000')", true},
	} {
		digest := signIn(t, s, sample(t, s, "admin"))
		execute(t, dsn, c.statements)
		if c.ends {
			execute(t, dsn, "DELETE FROM system_keys")
			sample(t, s, "admin")
		}
		if got := signedIn(t, s, digest); got == c.ends {
			t.Errorf("%s: the session is live: %t", c.name, got)
		}
		execute(t, dsn, "DELETE FROM system_keys")
	}
}

// TestATransactionThatBeganBeforeEndsSessionsToo has services change keys in
// transactions that do not see what happens to sessions after they began.
func TestATransactionThatBeganBeforeEndsSessionsToo(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	for name, change := range map[string]string{
		"deleted":            "DELETE FROM system_keys",
		"given another hash": "UPDATE system_keys SET key_hash = key_hash || 'x'",
	} {
		key := sample(t, s, "admin")
		before, signedOut := signIn(t, s, key), signIn(t, s, key)
		tx, err := connect(t, dsn).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "SELECT FROM system_keys"); err != nil { // takes the snapshot
			t.Fatal(err)
		}
		after := signIn(t, s, key)
		if err := s.EndSession(t.Context(), signedOut); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Errorf("%s: the commit failed, since somebody signed out: %v", name, err)
		}
		for what, digest := range map[string][32]byte{"before": before, "since": after, "that was signed out": signedOut} {
			if signedIn(t, s, digest) {
				t.Errorf("%s: a session of %s is live", name, what)
			}
		}
		execute(t, dsn, "DELETE FROM system_keys")
		sample(t, s, "admin")
		if signedIn(t, s, before) {
			t.Errorf("%s: a session of before came back with its key", name)
		}
		execute(t, dsn, "DELETE FROM system_keys")
	}
}

// TestSigningInWaitsForWhoChangesTheKey has a service take its time between the
// change of a key and its commit.
func TestSigningInWaitsForWhoChangesTheKey(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	observer := connect(t, dsn)
	for change, want := range map[string]error{
		"DELETE FROM system_keys":                           store.ErrActorGone,
		"UPDATE system_keys SET key_hash = key_hash || 'x'": nil,
	} {
		key := sample(t, s, "admin")
		other := connect(t, dsn)
		if _, err := other.Exec(t.Context(), "BEGIN; "+change); err != nil {
			t.Fatal(err)
		}
		digest := [32]byte{byte(len(change))}
		done := make(chan error, 1)
		go func() {
			done <- s.CreateSession(t.Context(), &store.Session{Digest: digest, Key: key.ID, ExpiresAt: time.Now().Add(time.Hour)})
		}()
		for waiting := false; !waiting; {
			err := observer.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity "+
				"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				t.Fatalf("%s: CreateSession = %v before the change was committed", change, err)
			default:
			}
		}
		if _, err := other.Exec(t.Context(), "COMMIT"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("%s: CreateSession = %v, want %v", change, err, want)
		}
		// By the new hash the session came after the change.
		if got := signedIn(t, s, digest); got != (want == nil) {
			t.Errorf("%s: the session is live: %t", change, got)
		}
		execute(t, dsn, "DELETE FROM system_keys")
	}
}
