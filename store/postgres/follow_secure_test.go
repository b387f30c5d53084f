package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const oneID = "0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a"

// fails runs a statement of the service that must fail with this code.
func (f *followed) fails(conn *pgx.Conn, statement, want string) {
	f.tb.Helper()
	_, err := conn.Exec(f.tb.Context(), statement)
	if refusal, ok := errors.AsType[*pgconn.PgError](err); !ok || refusal.Code != want {
		f.tb.Errorf("%s: %v, want %s", statement, err, want)
	}
}

// TestADeletionIsNeverSkipped: if the key cannot be deleted here, their statement fails.
func TestADeletionIsNeverSkipped(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+"; INSERT INTO keys VALUES ('"+oneID+"', 'one', '"+hash+"')")
	f.run("CREATE FUNCTION own.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;" +
		"CREATE TRIGGER keep BEFORE DELETE ON own.system_keys FOR EACH ROW EXECUTE FUNCTION own.keep()")
	for _, statement := range []string{"DELETE FROM keys", "TRUNCATE keys", "UPDATE keys SET id = gen_random_uuid()", "UPDATE keys SET key_hash = 'x'"} {
		f.fails(f.theirs, statement, "P0001")
	}
	f.is("SELECT id::text || label FROM keys", oneID+"one")
	f.run("DROP TRIGGER keep ON own.system_keys")

	// A transaction that began before the key came here does not see it.
	f.run("DELETE FROM own.system_keys; UPDATE own.audit_log SET actor = 'import'")
	early := connect(t, f.dsn)
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		for statement, want := range map[string]string{
			"DELETE FROM keys": "40001", "UPDATE keys SET id = gen_random_uuid()": "40001", "UPDATE keys SET key_hash = 'x'": "40001",
			"UPDATE keys SET permissions = '{}'": "40001", "TRUNCATE keys": "0A000",
		} {
			if _, err := early.Exec(t.Context(), "BEGIN ISOLATION LEVEL "+level+"; SELECT FROM keys"); err != nil {
				t.Fatal(err)
			}
			f.run("INSERT INTO own.system_keys (id, label, key_hash, created_by) SELECT id, label, key_hash, 'import' FROM keys")
			f.fails(early, statement, want)
			if _, err := early.Exec(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			f.run("DELETE FROM own.system_keys; UPDATE own.audit_log SET actor = 'import'")
		}
		f.run("BEGIN ISOLATION LEVEL " + level + "; DELETE FROM keys; INSERT INTO keys VALUES ('" + oneID + "', 'one', '" + hash + "'); COMMIT")
		f.is(ours, "one")
		f.run("BEGIN ISOLATION LEVEL " + level + "; DELETE FROM keys; COMMIT")
		f.is(ours, "NULL")
		f.run("INSERT INTO keys VALUES ('" + oneID + "', 'one', '" + hash + "'); DELETE FROM own.system_keys; UPDATE own.audit_log SET actor = 'import'")
	}
}

func TestOnlyKeysThatCameFromThereEndThere(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable)
	minted := sample(t, f.s, "minted")
	f.run("INSERT INTO own.system_keys (id, label, key_hash) VALUES ('" + oneID + "', 'inserted', '" + hash + "')")
	for _, id := range []string{minted.ID.String(), oneID} {
		f.run("INSERT INTO keys VALUES ('" + id + "', 'twin', '" + hash + "', '{a:b}'); UPDATE keys SET permissions = '{c:d}'")
		f.is("SELECT string_agg(why, ',') FROM own.follow_unfit", "id belongs to a key that did not come from this table")
		f.run("UPDATE keys SET key_hash = 'x'; DELETE FROM keys WHERE label = 'twin'")
		f.is(ours, "inserted, minted")
	}
	f.run("TRUNCATE keys")
	f.is(ours, "inserted, minted")
}

func TestARowThatDoesNotFitAnyMoreEndsItsKey(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+"; INSERT INTO keys VALUES ('"+oneID+"', 'one', '"+hash+"')")
	for column, why := range map[string]string{
		"key_hash = '$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9'":  "hash is no Argon2id PHC string within the bounds",
		"key_hash = replace(key_hash, 'm=19456', 'm=9')":  "NULL", // weak, but within the bounds
		"key_hash = replace(key_hash, '19456', '999999')": "hash is no Argon2id PHC string within the bounds",
		"label = 'lm_sys_0123456789abcdefghij'":           "label must not hold a system key",
		"label = NULL":                                    "label must not be empty",
		"permissions = '{bots:*}'":                        "permissions has one that is not of the form resource:action (a-z, 0-9 and hyphen)",
		"expires_at = 'infinity'":                         "expires_at must lie after the beginning of 1970 and before the year 10000",
	} {
		f.run("UPDATE keys SET " + column)
		f.is("SELECT string_agg(why, ',') FROM own.follow_unfit", why)
		if f.is("SELECT count(*) FROM own.system_keys", map[bool]string{true: "1", false: "0"}[why == "NULL"]); t.Failed() {
			t.Fatal(column)
		}
		f.run("UPDATE keys SET label = 'one', key_hash = '" + hash + "', permissions = '{}', expires_at = NULL")
		f.is("SELECT count(*) FROM own.follow_unfit", "0")
		f.is(ours, "one")
	}
	// What is not a UUID came nowhere. A key in the wrong column is not kept.
	f.is("SELECT own.shown_id('lm_sys_0123456789abcdefghij')", "not a UUID")
	f.is("SELECT own.shown_id('"+hash+"')", "not a UUID")
	f.run("ALTER TABLE keys RENAME COLUMN label TO name; UPDATE keys SET name = 'two'")
	f.is(ours, "NULL")
	f.run("INSERT INTO keys (id, name) VALUES (gen_random_uuid(), 'three'); DELETE FROM keys WHERE name = 'three'")
	f.is("SELECT string_agg(why, ',') FROM own.follow_unfit", "its columns are not those of the import any more")
}

func TestWhatWasRevokedHereDoesNotComeBack(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+"; INSERT INTO keys VALUES ('"+oneID+"', 'one', '"+hash+"')")
	id, _ := store.ParseID(oneID)
	if _, err := f.s.DeleteKey(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	again := func(when string) {
		t.Helper()
		f.is("SELECT string_agg(why, ',') FROM own.follow_unfit", "id was revoked here")
		if f.is(ours, "NULL"); t.Failed() {
			t.Fatal(when)
		}
	}
	f.run("UPDATE keys SET permissions = '{a:b}'")
	again("after an update")
	f.run("DELETE FROM keys; INSERT INTO keys VALUES ('" + oneID + "', 'one', '" + hash + "')")
	again("after an insert")
	f.mustFollow()
	again("after another import")
	f.run("ALTER TABLE keys DISABLE TRIGGER ALL")
	f.mustFollow()
	again("after the triggers were put back")
}

func TestAHashThatWasRenewedHereStays(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+"; INSERT INTO keys VALUES ('"+oneID+"', 'one', '"+hash+"')")
	id, _ := store.ParseID(oneID)
	renewed := store.Hash(strings.Replace(hash, "19456", "20000", 1))
	if err := f.s.RehashKey(t.Context(), id, hash, renewed); err != nil {
		t.Fatal(err)
	}
	f.run("UPDATE keys SET label = 'uno'")
	f.is("SELECT label || key_hash FROM own.system_keys", "uno"+string(renewed))
	f.run("UPDATE keys SET key_hash = replace(key_hash, 't=2', 't=3')")
	f.is("SELECT key_hash FROM own.system_keys", strings.Replace(hash, "t=2", "t=3", 1))
}

// TestTheServiceGetsNoRightsOfOurs has it put its own code wherever ours might call it.
func TestTheServiceGetsNoRightsOfOurs(t *testing.T) {
	t.Parallel()
	f := unfollowed(t, "CREATE TABLE caught (who text); GRANT INSERT ON caught TO PUBLIC")
	roles(t, f.dsn, "service")
	role := pgx.Identifier{roleOf(f.dsn, "service")}.Sanitize()
	f.run("CREATE SCHEMA theirs AUTHORIZATION " + role + "; SET ROLE " + role + `; CREATE TYPE theirs.name AS (name text);
CREATE FUNCTION theirs.note() RETURNS boolean LANGUAGE sql AS $$ INSERT INTO public.caught VALUES (current_user) RETURNING true $$;
CREATE FUNCTION theirs.cast(theirs.name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM theirs.note(); RETURN 'cast'; END $$;
CREATE FUNCTION theirs.format(text, uuid) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM theirs.note(); RETURN $2; END $$;
CREATE FUNCTION theirs.btrim(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM theirs.note(); RETURN $1; END $$;
CREATE FUNCTION theirs.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM theirs.note(); RETURN $1; END $$;
CREATE FUNCTION theirs.same(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM theirs.note(); RETURN true; END $$;
CREATE FUNCTION theirs.differs(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM theirs.note(); RETURN false; END $$;
CREATE OPERATOR theirs.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = theirs.same);
CREATE OPERATOR theirs.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = theirs.differs);
CREATE CAST (theirs.name AS text) WITH FUNCTION theirs.cast(theirs.name) AS IMPLICIT;
CREATE TABLE theirs.keys (id uuid PRIMARY KEY, label theirs.name, key_hash text, permissions text[]); RESET ROLE`)
	f.table = "theirs.keys"
	f.mustFollow()
	f.run("SET ROLE " + role + "; SET search_path = theirs, pg_catalog; CREATE TEMP TABLE system_keys (id uuid); CREATE TEMP TABLE audit_log (id uuid)")
	f.run("INSERT INTO theirs.keys VALUES ('" + oneID + "', ROW('one'), '" + hash + "', '{a:b}')")
	f.run("UPDATE theirs.keys SET permissions = '{c:d}'")
	f.run("UPDATE theirs.keys SET key_hash = 'x'")
	f.run("DELETE FROM theirs.keys")
	f.run("TRUNCATE theirs.keys")
	refused := func(statement string) { f.fails(f.theirs, statement, "42501") }
	for _, call := range []string{
		"own.end_followed(NULL)", "own.carry('', '', '', '', now(), NULL, now(), false, false)", "own.fit('', '', '', '', now(), NULL, now(), false)",
		"own.note_unfit('', '')", "own.revoked_here(NULL)", "own.flow_back('{}')", "own.carry_over()", "own.can_be_seen('')", "own.shown_id('')",
	} {
		refused("SELECT " + call)
	}
	// With such a trigger anybody could make keys.
	f.run("CREATE TABLE theirs.mine (LIKE theirs.keys)")
	refused("CREATE TRIGGER mine AFTER INSERT ON theirs.mine FOR EACH ROW EXECUTE FUNCTION own.carry_over('id', 'hash', 'id', 'false')")
	for _, table := range []string{"follow", "follow_unfit", "system_keys"} {
		refused("SELECT FROM own." + table)
	}
	f.run("RESET ROLE; RESET search_path")
	f.is("SELECT string_agg(who, ',') FROM public.caught", "NULL")
	f.is("SELECT string_agg(key_label, ',') FROM own.audit_log", "(one)")
}

// theirIDs and ourIDs are the same if everything was carried over.
const (
	theirIDs = "SELECT md5(string_agg(id::text || label || permissions::text, ',' ORDER BY id)) FROM keys"
	ourIDs   = "SELECT md5(string_agg(id::text || label || permissions::text, ',' ORDER BY id)) FROM own.system_keys"
)

// same checks that the store has what the service has.
func (f *followed) same(when string) {
	f.tb.Helper()
	var want string
	if err := f.theirs.QueryRow(f.tb.Context(), "SELECT coalesce(("+theirIDs+"), 'NULL')").Scan(&want); err != nil {
		f.tb.Fatal(err)
	}
	if f.is(ourIDs, want); f.tb.Failed() {
		f.tb.Fatal(when)
	}
}

// manyRows are enough for several batches.
func manyRows(n int) string {
	return fmt.Sprintf("INSERT INTO keys SELECT gen_random_uuid(), 'key ' || n, '%s', '{a:b}' FROM generate_series(1, %d) n;", hash, n)
}

// TestWhatIsDeletedBetweenTwoBatchesStaysDeleted, which a table that was read before would
// bring back. The import is killed too, and goes on.
func TestWhatIsDeletedBetweenTwoBatchesStaysDeleted(t *testing.T) {
	t.Parallel()
	f := unfollowed(t, theirTable+";"+manyRows(2500))
	ctx, kill := context.WithCancel(t.Context())
	f.progress = func(int) {
		f.run("DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id DESC LIMIT 1); DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id LIMIT 1);" +
			"UPDATE keys SET permissions = '{c:d}' WHERE id IN (SELECT id FROM keys ORDER BY id DESC LIMIT 1)")
		kill()
	}
	first, err := f.follow(ctx) // of 1000 rows, or of fewer if the machine is busy
	if !errors.Is(err, context.Canceled) || first == 0 || first > 1000 {
		t.Fatalf("a killed import has added %d, %v", first, err)
	}
	f.is("SELECT count(*) FROM own.system_keys", strconv.Itoa(first)) // one was deleted, and one was updated
	f.progress = func(int) {}
	if added := f.mustFollow(); added != 2498-first {
		t.Errorf("it has added %d after %d", added, first)
	}
	f.same("after the end")
}

// TestTheServiceWritesOnDuringTheBatches, in several sessions and at any isolation level.
func TestTheServiceWritesOnDuringTheBatches(t *testing.T) {
	t.Parallel()
	f := unfollowed(t, theirTable+";"+manyRows(3000))
	done, finish := context.WithCancel(t.Context())
	var group errgroup.Group
	for worker := range 3 {
		conn := connect(t, f.dsn)
		level := []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[worker]
		group.Go(func() error {
			for n := 0; done.Err() == nil; n++ {
				one := fmt.Sprintf("WHERE label = 'key %d'", (n*3+worker)%3000)
				statement := []string{
					"DELETE FROM keys " + one, "UPDATE keys SET permissions = '{c:d}' " + one, "UPDATE keys SET id = gen_random_uuid() " + one,
					"INSERT INTO keys SELECT gen_random_uuid(), 'more', key_hash, '{}' FROM keys LIMIT 1", "UPDATE keys SET last_used_at = now() " + one,
				}[n%5]
				_, err := conn.Exec(t.Context(), "BEGIN ISOLATION LEVEL "+level+"; "+statement+"; COMMIT")
				if err != nil {
					refusal, ok := errors.AsType[*pgconn.PgError](err)
					if !ok || refusal.Code != "40001" || worker == 0 { // which who chooses such a level repeats
						return fmt.Errorf("%s: %w", statement, err)
					}
					if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	_, err := f.follow(t.Context())
	finish()
	if failed := group.Wait(); err != nil || failed != nil {
		t.Fatalf("the import: %v; the service: %v", err, failed)
	}
	f.same("after the import")
	f.run("ALTER TABLE keys DISABLE TRIGGER ALL; DELETE FROM keys WHERE label < 'key 2'; UPDATE keys SET permissions = '{e:f}' WHERE label < 'key 4'")
	f.mustFollow()
	f.same("after the triggers were put back")
}

// TestAKeyThatWasReplacedEndsAsItWasTo: their rows have expiries of their own, and know
// nothing of the successor here.
func TestAKeyThatWasReplacedEndsAsItWasTo(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable)
	f.run(theirRow("bot"))
	var old store.ID
	if err := f.theirs.QueryRow(t.Context(), "SELECT id FROM keys").Scan((*[16]byte)(&old)); err != nil {
		t.Fatal(err)
	}
	_, err := f.s.RotateKey(t.Context(), &store.Rotation{
		ID: old, Deadline: time.Hour, Grace: time.Minute,
		Successor: func(old *store.Key) (*store.Key, error) {
			return &store.Key{ID: store.ID{1}, Label: old.Label, Hash: hash, CreatedAt: time.Now(), CreatedBy: "cli"}, nil
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const soon = "SELECT count(*) FROM own.system_keys WHERE label = 'other' AND expires_at < now() + interval '2 hours'"
	f.run("UPDATE keys SET label = 'other'")
	f.is(soon, "1")
	f.run("UPDATE keys SET expires_at = now() + interval '1 year'")
	f.is(soon, "1")
	f.run("UPDATE keys SET expires_at = now() + interval '1 minute'")
	f.is("SELECT count(*) FROM own.system_keys WHERE expires_at < now() + interval '2 minutes'", "1")
}
