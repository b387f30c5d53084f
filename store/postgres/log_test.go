package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// follow opens a feed that its test closes.
func follow(tb testing.TB, s store.Store) store.Feed {
	tb.Helper()
	feed, err := s.Follow(context.WithoutCancel(tb.Context()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = feed.Close() })
	return feed
}

// pull is a view from a place in the log on.
func pull(tb testing.TB, feed store.Feed, from store.Position) *store.View {
	tb.Helper()
	view, err := feed.Pull(tb.Context(), &store.Turn{Applied: from, Limit: 1000})
	if err != nil {
		tb.Fatal(err)
	}
	return view
}

// kinds of what was logged after a place.
func kinds(tb testing.TB, feed store.Feed, from store.Position) string {
	tb.Helper()
	var all []byte
	for _, c := range pull(tb, feed, from).Changes {
		all = append(all, byte(c.Kind))
	}
	return string(all)
}

const insertOne = "INSERT INTO system_keys (id, label, key_hash) VALUES (gen_random_uuid(), 'new', '" + hash + "')"

func TestWhatPlainSQLLogs(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	feed := follow(t, s)
	conn := connect(t, dsn)
	file := "/tmp/" + conn.Config().Database + ".copied" // the server's own
	t.Cleanup(func() { _ = os.Remove(file) })
	for _, c := range []struct{ name, statements, want string }{
		{"a permission", "UPDATE system_keys SET permissions = '{\"a:read\"}' WHERE label = 'one'", "u"},
		{"is_system", "UPDATE system_keys SET is_system = NOT is_system WHERE label = 'one'", "u"},
		{"an expiry", "UPDATE system_keys SET expires_at = now() WHERE label = 'one'", "u"},
		{"networks", "UPDATE system_keys SET networks = '{10.0.0.0/8}' WHERE label = 'one'", "u"},
		{"the same networks", "UPDATE system_keys SET networks = '{10/8}' WHERE label = 'one'", ""},
		{"a last use", "UPDATE system_keys SET last_used_at = clock_timestamp()", ""},
		{"rolled back", "BEGIN; DELETE FROM system_keys; ROLLBACK", ""},
		{"rolled back to a savepoint", "BEGIN; SAVEPOINT s; DELETE FROM system_keys; ROLLBACK TO s; COMMIT", ""},
		{"under session_replication_role = replica", "SET session_replication_role = replica; UPDATE system_keys SET label = 'uno' WHERE label = 'one'; " +
			"UPDATE system_keys SET label = 'one' WHERE label = 'uno'; RESET session_replication_role", "uu"},
		{"by a trigger of another service", "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.permissions = '{\"b:read\"}'; RETURN NEW; END $$; " +
			"CREATE TRIGGER shout BEFORE UPDATE ON system_keys FOR EACH ROW EXECUTE FUNCTION shout(); " +
			"UPDATE system_keys SET last_used_at = clock_timestamp() WHERE label = 'one'; DROP TRIGGER shout ON system_keys", "u"},
		{"many at once", "DELETE FROM system_keys", "ddd"},
		{"TRUNCATE", "TRUNCATE system_keys", "f"},
		{"an insert", insertOne, "i"},
		{"COPY", "COPY (SELECT gen_random_uuid(), 'copied', '" + hash + "' FROM generate_series(1, 1000)) TO '{file}'; " +
			"COPY system_keys (id, label, key_hash) FROM '{file}'", "i"},
		{"many inserts of one transaction", "BEGIN; " + insertOne + "; " + insertOne + "; SAVEPOINT s; " + insertOne + "; COMMIT", "i"},
		{"an insert behind one that was rolled back", "BEGIN; SAVEPOINT s; " + insertOne + "; ROLLBACK TO s; " + insertOne + "; COMMIT", "i"},
		{"an insert that was rolled back", "BEGIN; " + insertOne + "; ROLLBACK", ""},
		{"an insert as a replica", "SET session_replication_role = replica; " + insertOne + "; RESET session_replication_role", "i"},
		{"an insert that is truncated in its transaction", "BEGIN; " + insertOne + "; TRUNCATE system_keys; COMMIT", "fi"},
		{"an insert of nothing", "INSERT INTO system_keys SELECT * FROM system_keys WHERE false", ""},
		{"the counter summed up", "WITH gone AS (DELETE FROM sidecar.key_count RETURNING delta) " +
			"INSERT INTO sidecar.key_count (delta) SELECT sum(delta) FROM gone HAVING count(*) > 0", ""},
		{"a revocation by procedure", insertOne + "\nDO $$ DECLARE key uuid := (SELECT id FROM system_keys LIMIT 1); BEGIN CALL sidecar.revoke(key); END $$", "idd"},
		{"a revocation of a key that is gone and has rotated itself", insertOne + "\nUPDATE system_keys SET ancestors = '{0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a}'\n" +
			"CALL sidecar.revoke('0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a')", "idd"},
		{"a revocation of no key", "CALL sidecar.revoke(gen_random_uuid())", "d"},
		{"a revocation without a trigger", insertOne + "\nALTER TABLE sidecar.deletion DISABLE TRIGGER sidecar_log_delete\n" +
			"DO $$ DECLARE key uuid := (SELECT id FROM system_keys LIMIT 1); BEGIN CALL sidecar.revoke(key); END $$\nALTER TABLE sidecar.deletion ENABLE ALWAYS TRIGGER sidecar_log_delete", "id"},
	} {
		if c.name == "a permission" {
			for _, label := range []string{"one", "two", "three"} {
				sample(t, s, label)
			}
		}
		head := pull(t, feed, store.Position{}).Head
		for statement := range strings.SplitSeq(strings.ReplaceAll(c.statements, "{file}", file), "\n") {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Errorf("%s: %s: %v", c.name, statement, err)
			}
		}
		if got := kinds(t, feed, head); got != c.want {
			t.Errorf("%s: logged %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLastUsesAreNotLogged(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	feed := follow(t, s)
	execute(t, dsn, `INSERT INTO system_keys (id, label, key_hash) SELECT gen_random_uuid(), 'bulk ' || n, '`+hash+`' FROM generate_series(1, 20000) n`)
	head := pull(t, feed, store.Position{}).Head
	execute(t, dsn, "UPDATE system_keys SET last_used_at = now()")
	if view := pull(t, feed, head); view.Head != head {
		t.Errorf("%d changes were logged", len(view.Changes))
	}
}

// appendWithoutLock is append as it would be with a sequence alone.
const appendWithoutLock = `CREATE OR REPLACE FUNCTION sidecar.append(keys uuid[], op text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE drawn bigint := nextval('sidecar.rev_seq');
BEGIN
    INSERT INTO sidecar.change_log (rev, tag, key_id, op) VALUES (drawn, sidecar.random_tag(), keys[1], op);
    RETURN drawn;
END $$`

// TestNoChangeIsSkipped has sixteen sessions delete in transactions that take their
// time after the change has got its number, and a follower that reads on from the
// highest it has seen.
func TestNoChangeIsSkipped(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	const deleters, each = 16, 10
	var labels []string
	for n := range deleters * each {
		label := fmt.Sprintf("%03d", n)
		sample(t, s, label)
		labels = append(labels, label)
	}
	feed := follow(t, s)
	place := pull(t, feed, store.Position{}).Head
	done := make(chan struct{})
	var deleting sync.WaitGroup
	for n := range deleters {
		conn := connect(t, dsn)
		deleting.Go(func() {
			for _, label := range labels[n*each : (n+1)*each] {
				if err := deleteSlowly(t.Context(), conn, label); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		deleting.Wait()
		close(done)
	}()
	var seen []store.ID
	for over := false; ; {
		view := pull(t, feed, place)
		for _, c := range view.Changes {
			place, seen = c.Position, append(seen, c.Key)
		}
		if over {
			break
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	if skipped := deleters*each - len(slices.Compact(seen)); skipped != 0 {
		t.Errorf("%d of %d changes were skipped", skipped, deleters*each)
	}
}

// TestWithoutTheLockAChangeIsSkipped: the first to draw a number commits last, and the
// follower is past it by then. The lock makes the second wait for the first.
func TestWithoutTheLockAChangeIsSkipped(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{true, false} {
		t.Run(fmt.Sprint("locked ", locked), func(t *testing.T) {
			t.Parallel()
			s, dsn := migrated(t)
			if !locked {
				execute(t, dsn, appendWithoutLock)
			}
			first, second := sample(t, s, "first"), sample(t, s, "second")
			feed := follow(t, s)
			place := pull(t, feed, store.Position{}).Head
			tx, err := connect(t, dsn).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range []string{"DELETE FROM system_keys WHERE id = '" + first.ID.String() + "'", "SET CONSTRAINTS ALL IMMEDIATE"} {
				if _, err := tx.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			other := connect(t, dsn)
			if _, err := other.Exec(t.Context(), "SET lock_timeout = '500ms'"); err != nil {
				t.Fatal(err)
			}
			_, err = other.Exec(t.Context(), "DELETE FROM system_keys WHERE id = '"+second.ID.String()+"'")
			if locked != (err != nil) {
				t.Fatalf("the second deletion: %v", err)
			}
			var seen []store.ID
			for _, end := range []func(context.Context) error{func(context.Context) error { return nil }, tx.Commit} {
				if err := end(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, c := range pull(t, feed, place).Changes {
					place, seen = c.Position, append(seen, c.Key)
				}
			}
			if want := map[bool]store.ID{true: first.ID, false: second.ID}[locked]; !slices.Equal(slices.Compact(seen), []store.ID{want}) {
				t.Errorf("the follower has seen %v, want %v", seen, want)
			}
		})
	}
}

// deleteSlowly takes a moment between the trigger and the end of the transaction.
func deleteSlowly(ctx context.Context, conn *pgx.Conn, label string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM system_keys WHERE label = $1", label)
		if err == nil {
			_, err = tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE") // as COMMIT does
		}
		time.Sleep(time.Duration(rand.Int64N(int64(4 * time.Millisecond))))
		return err
	})
}

// TestOtherIsolationLevelsCanDelete has services that use them delete at the same
// time. A counter in a row would have all but one fail.
func TestOtherIsolationLevelsCanDelete(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	feed := follow(t, s)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		var txs []pgx.Tx
		var keys []*store.Key
		for n := range 4 {
			keys = append(keys, sample(t, s, fmt.Sprint(level, n)))
		}
		head := pull(t, feed, store.Position{}).Head
		for n := range 4 {
			tx, err := connect(t, dsn).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "DELETE FROM system_keys WHERE id = $1", keys[n].ID.String()); err != nil {
				t.Fatal(err)
			}
			txs = append(txs, tx)
		}
		for _, tx := range txs {
			if err := tx.Commit(t.Context()); err != nil && level != pgx.Serializable {
				t.Errorf("%s: %v", level, err)
			}
		}
		if got := kinds(t, feed, head); level != pgx.Serializable && got != "dddd" {
			t.Errorf("%s: logged %q", level, got)
		}
	}
}

func TestADeletionIsDurableHoweverTheServiceIsSet(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	conn := connect(t, dsn)
	for setting, want := range map[string]string{"off": "on", "local": "on", "on": "on", "remote_apply": "remote_apply"} {
		label := setting
		sample(t, s, label)
		if _, err := conn.Exec(t.Context(), "SET synchronous_commit = "+setting); err != nil {
			t.Fatal(err)
		}
		var got, after string
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "DELETE FROM system_keys WHERE label = $1", label); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&after); err != nil {
			t.Fatal(err)
		}
		if got != want || after != setting {
			t.Errorf("%s: it is %s when the change is committed, and %s after", setting, got, after)
		}
	}
}

func TestTriggersThatAreGoneAreNoticed(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	feed := follow(t, s)
	watched := func() bool {
		t.Helper()
		progress, err := s.Progress(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		view := pull(t, feed, store.Position{})
		if view.Watched != progress.Watched {
			t.Errorf("a turn says %v, a look at the members %v", view.Watched, progress.Watched)
		}
		return view.Watched
	}
	if !watched() {
		t.Fatal("a new store is not watched")
	}
	for _, c := range []struct{ broken, repaired string }{
		{"ALTER TABLE sidecar.deletion DISABLE TRIGGER sidecar_log_delete", "ALTER TABLE sidecar.deletion ENABLE ALWAYS TRIGGER sidecar_log_delete"},
		{"ALTER TABLE system_keys DISABLE TRIGGER sidecar_log_truncate", "ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_log_truncate"},
		{"ALTER TABLE system_keys ENABLE TRIGGER sidecar_log_update", "ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_log_update"}, // not for replicas
		{"ALTER TABLE system_keys RENAME TO old; CREATE TABLE system_keys (LIKE old INCLUDING ALL)", "DROP TABLE system_keys; ALTER TABLE old RENAME TO system_keys"},
		{"ALTER TABLE system_keys DISABLE TRIGGER sidecar_delete", "ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_delete"},
		{"ALTER TABLE system_keys DISABLE TRIGGER sidecar_insert", "ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_insert"},
		{"ALTER TABLE sidecar.key_count DISABLE TRIGGER sidecar_log_insert", "ALTER TABLE sidecar.key_count ENABLE ALWAYS TRIGGER sidecar_log_insert"},
		{"ALTER TABLE system_keys DISABLE TRIGGER sidecar_log_replicated", "ALTER TABLE system_keys ENABLE REPLICA TRIGGER sidecar_log_replicated"},
		{"ALTER TABLE system_keys DISABLE TRIGGER USER", "ALTER TABLE system_keys ENABLE ALWAYS TRIGGER sidecar_insert, ENABLE ALWAYS TRIGGER sidecar_delete, " +
			"ENABLE ALWAYS TRIGGER sidecar_log_update, ENABLE ALWAYS TRIGGER sidecar_log_truncate, ENABLE REPLICA TRIGGER sidecar_log_replicated"},
		{"CREATE TABLE parent (LIKE system_keys INCLUDING ALL); ALTER TABLE system_keys INHERIT parent", "ALTER TABLE system_keys NO INHERIT parent"},
		{"CREATE TABLE child () INHERITS (system_keys)", "DROP TABLE child"},
		{"DROP TRIGGER sidecar_log_delete ON sidecar.deletion", ""},
	} {
		execute(t, dsn, c.broken)
		if watched() {
			t.Errorf("not noticed: %s", c.broken)
		}
		if c.repaired == "" {
			continue
		}
		execute(t, dsn, c.repaired)
		if !watched() {
			t.Errorf("not noticed: %s", c.repaired)
		}
	}
}
