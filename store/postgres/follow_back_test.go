package postgres_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// use has a server with the rights of one record the use of all imported keys.
func (f *followed) use(s *postgres.Store, at time.Time) {
	f.tb.Helper()
	pull(f.tb, follow(f.tb, s), store.Position{}) // by which it knows that a table is followed
	rows, _ := f.theirs.Query(f.tb.Context(), "SELECT id FROM own.system_keys")
	ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		f.tb.Fatal(err)
	}
	var uses []store.Use
	for _, id := range ids {
		uses = append(uses, store.Use{ID: id, At: at})
	}
	if err := s.RecordUse(f.tb.Context(), uses); err != nil {
		f.tb.Error(err)
	}
}

var used = time.Date(2025, 5, 6, 7, 8, 9, 0, time.UTC)

const lastUses = "SELECT string_agg(DISTINCT to_char(%s AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), ' ') FROM %s"

func lastUsesOf(table, column string) string {
	return strings.NewReplacer("%s AT", column+" AT", "FROM %s", "FROM "+table).Replace(lastUses)
}

func TestLastUsesFlowBack(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"as usual":                  theirTable,
		"with text ids in capitals": "CREATE TABLE keys (id text PRIMARY KEY DEFAULT upper(gen_random_uuid()::text), label text, key_hash text, permissions text[], last_used_at timestamptz)",
		"without a zone":            strings.Replace(theirTable, "last_used_at timestamptz", "last_used_at timestamp", 1) + "; SET timezone = 'Asia/Tokyo'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := following(t, table+";INSERT INTO keys (id, label, key_hash) SELECT "+map[bool]string{true: "upper(gen_random_uuid()::text)", false: "gen_random_uuid()"}[strings.Contains(table, "id text")]+
				", 'key ' || n, '"+hash+"' FROM generate_series(1, 3) n")
			column := map[bool]string{true: "last_used_at AT TIME ZONE 'UTC'", false: "last_used_at"}[strings.Contains(table, "last_used_at timestamp,")]
			head := pull(t, follow(t, f.s), store.Position{}).Head
			f.use(f.s, used)
			f.is(lastUsesOf("keys", column), "2025-05-06 07:08:09")
			f.use(f.s, used.Add(-time.Hour)) // moves nothing back
			f.is(lastUsesOf("keys", column), "2025-05-06 07:08:09")
			f.run("UPDATE keys SET last_used_at = '2026-01-01 00:00:00Z'") // used by way of the other service
			f.use(f.s, used.Add(time.Hour))
			f.is(lastUsesOf("own.system_keys", "last_used_at"), "2025-05-06 08:08:09")
			f.is("SELECT count(*) FROM keys WHERE last_used_at < '2025-12-31'", "0")
			if now := pull(t, follow(t, f.s), store.Position{}).Head; now != head {
				t.Error("a change was logged")
			}
		})
	}
}

// TestTheirLocksDoNotHoldOurLastUsesUp has them lock a row, and then the table.
func TestTheirLocksDoNotHoldOurLastUsesUp(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+";"+theirRow("one")+theirRow("two"))
	for n, lock := range []string{"UPDATE keys SET label = label WHERE label = 'one'", "LOCK TABLE keys IN ACCESS EXCLUSIVE MODE"} {
		tx, err := connect(t, f.dsn).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), lock); err != nil {
			t.Fatal(err)
		}
		at := used.AddDate(0, 0, n)
		f.use(f.s, at)
		f.is(lastUsesOf("own.system_keys", "last_used_at"), at.Format(time.DateTime))
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			f.is(lastUsesOf("keys", "last_used_at"), at.Format(time.DateTime)) // of the other row
			f.is("SELECT count(*) FROM keys WHERE last_used_at IS NULL", "1")
		}
	}
	f.use(f.s, used.AddDate(0, 0, 7)) // makes up for it
	f.is(lastUsesOf("keys", "last_used_at"), used.AddDate(0, 0, 7).Format(time.DateTime))
}

// TestNoCodeOfTheirsRunsWithOurRights has their table do something at each update.
func TestNoCodeOfTheirsRunsWithOurRights(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+";"+theirRow("one"))
	roles(t, f.dsn, "service")
	role := pgx.Identifier{roleOf(f.dsn, "service")}.Sanitize()
	f.run("GRANT CREATE ON SCHEMA public TO " + role + "; CREATE TABLE caught (who text); GRANT INSERT ON caught TO PUBLIC; SET ROLE " + role +
		"; CREATE FUNCTION public.catch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN NEW; END $$" +
		"; CREATE FUNCTION public.note() RETURNS boolean LANGUAGE sql AS $$ INSERT INTO public.caught VALUES (current_user) RETURNING true $$" +
		"; CREATE FUNCTION public.holds(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.note(); END $$; RESET ROLE")
	var log bytes.Buffer
	for n, c := range []struct{ add, remove, why string }{
		{"CREATE TRIGGER trap BEFORE UPDATE ON keys FOR EACH ROW EXECUTE FUNCTION catch()", "DROP TRIGGER trap ON keys", "the trigger trap"},
		{"CREATE CONSTRAINT TRIGGER trap AFTER UPDATE ON keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catch()", "DROP TRIGGER trap ON keys", "the trigger trap"},
		{"ALTER TABLE keys ADD CONSTRAINT trap CHECK (holds(label))", "ALTER TABLE keys DROP CONSTRAINT trap", "a constraint, an index or a default"},
		{"CREATE INDEX trap ON keys (holds(label))", "DROP INDEX trap", "a constraint, an index or a default"},
		{"CREATE RULE trap AS ON UPDATE TO keys DO ALSO INSERT INTO caught VALUES (current_user)", "DROP RULE trap ON keys", "a rule"},
		{
			"CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.created_at = now(); RETURN NEW; END $$; CREATE TRIGGER mine BEFORE UPDATE ON keys FOR EACH ROW EXECUTE FUNCTION mine()",
			"DROP TRIGGER mine ON keys", "",
		}, // of a superuser
	} {
		s, err := postgres.Open(t.Context(), f.dsn, postgres.Options{Schema: "own", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		f.run(c.add)
		f.run("TRUNCATE caught")
		log.Reset()
		at := used.AddDate(0, 0, n)
		f.use(s, at)
		f.is(lastUsesOf("own.system_keys", "last_used_at"), at.Format(time.DateTime))
		f.is("SELECT count(*) FROM caught", "0")
		if !strings.Contains(log.String(), c.why) || (c.why == "") != (log.Len() == 0) {
			t.Errorf("%s: the log has %q", c.add, log.String())
		}
		f.run(c.remove)
		f.run("TRUNCATE caught")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
