package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// configured returns a database with a default that a careful operator, or a
// careless one, might set.
func configured(tb testing.TB, setting string) string {
	tb.Helper()
	dsn := testenv.Database(tb)
	conn := connect(tb, dsn)
	if _, err := conn.Exec(tb.Context(), "ALTER DATABASE "+conn.Config().Database+" SET "+setting); err != nil {
		tb.Fatal(err)
	}
	return dsn
}

func TestCreatingAndDeletingWaitForTheDiskWhateverTheDefault(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{"off": "on", "local": "local", "remote_apply": "remote_apply"} {
		dsn := configured(t, "synchronous_commit = '"+setting+"'")
		s := open(t, dsn)
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn := connect(t, dsn)
		for _, statement := range []string{
			"CREATE TABLE seen (setting text)",
			"CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " +
				"INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
			"CREATE CONSTRAINT TRIGGER see AFTER INSERT OR DELETE ON system_keys DEFERRABLE INITIALLY DEFERRED " +
				"FOR EACH ROW EXECUTE FUNCTION see()",
		} {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.DeleteKey(t.Context(), sample(t, s, "x").ID, nil); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT string_agg(setting, ' ') FROM seen").Scan(&got); err != nil {
			t.Fatal(err)
		}
		if want += " " + want; got != want {
			t.Errorf("with synchronous_commit %s as the default it was %q at the commits, want %q", setting, got, want)
		}
	}
}

func TestASerializableDefaultBreaksNothing(t *testing.T) {
	t.Parallel()
	dsn := configured(t, "default_transaction_isolation = 'serializable'")
	instances := []store.Store{open(t, dsn), open(t, dsn)}
	var group errgroup.Group
	for _, s := range instances {
		group.Go(func() error { return s.Migrate(t.Context()) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var keys []*store.Key
	for i := range 20 {
		keys = append(keys, sample(t, instances[0], fmt.Sprintf("%02d", i)))
	}
	start := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	const rounds = 15
	for i, s := range instances {
		for range 2 {
			group.Go(func() error {
				for round := range rounds {
					var uses []store.Use
					for _, n := range rand.Perm(len(keys)) {
						uses = append(uses, store.Use{ID: keys[n].ID, At: start.Add(time.Duration(2*round+i) * time.Second)})
					}
					if err := s.RecordUse(t.Context(), uses); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	want := start.Add((2*(rounds-1) + 1) * time.Second)
	for _, key := range keys {
		if got, err := instances[0].Key(t.Context(), key.ID); err != nil || !got.LastUsedAt.Equal(want) {
			t.Errorf("last use = %v (%v), want %v", got.LastUsedAt, err, want)
		}
	}
}

func TestTheCounterStaysSmallAndRight(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	other := connect(t, dsn)
	const statements = 700
	_, err := other.Exec(t.Context(), fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
INSERT INTO system_keys (id, label, key_hash) VALUES (gen_random_uuid(), 'many ' || i, '%s'); END LOOP; END $$`, statements, hash))
	if err != nil {
		t.Fatal(err)
	}
	total := func() int {
		page, err := s.Keys(t.Context(), &store.KeyQuery{Limit: 1, Sort: store.SortLabel})
		if err != nil {
			t.Error(err)
			return -1
		}
		return page.Total
	}
	// Several lists at once find the counter crowded.
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			if got := total(); got != statements {
				return fmt.Errorf("total = %d, want %d", got, statements)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	var rows int
	if err := other.QueryRow(t.Context(), "SELECT count(*) FROM sidecar.key_count").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if got := total(); rows != 1 || got != statements {
		t.Errorf("the counter has %d rows and says %d, want 1 row and %d", rows, got, statements)
	}
}

func TestMigrateNeedsNoRightsWhereNothingIsToBeDone(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	owner := connect(t, dsn)
	role := "reader_" + strings.TrimPrefix(owner.Config().Database, "test_")
	for _, statement := range []string{
		"CREATE ROLE " + role + " LOGIN",
		"GRANT USAGE ON SCHEMA sidecar TO " + role,
		"GRANT SELECT ON sidecar.schema_migrations TO " + role,
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	lesser := open(t, strings.Replace(dsn, "//postgres@", "//"+role+"@", 1))
	if err := lesser.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate as a lesser role: %v", err)
	}
	if _, err := lesser.MintKey(t.Context()); err == nil {
		t.Error("the lesser role reads the mint key")
	}
	if err := lesser.Close(); err != nil {
		t.Error(err)
	}
	for _, statement := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	found(t, s, "", 0)
}

// A careful administrator makes the schema and lets the role do no more in the
// database than it must, which does not include making extensions.
func TestMigrateDoesWithoutTheExtension(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	owner := connect(t, dsn)
	role := "lesser_" + strings.TrimPrefix(owner.Config().Database, "test_")
	for _, statement := range []string{
		"CREATE ROLE " + role + " LOGIN",
		"CREATE SCHEMA sidecar AUTHORIZATION " + role,
		"GRANT CREATE ON SCHEMA public TO " + role,
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, strings.Replace(dsn, "//postgres@", "//"+role+"@", 1))
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var indexed bool
	err := owner.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_indexes WHERE indexname = 'label_search_trigrams')").Scan(&indexed)
	if err != nil || indexed {
		t.Fatalf("there is an index by trigrams: %t, %v", indexed, err)
	}
	sample(t, s, "a worker")
	sample(t, s, "a reader")
	found(t, s, "WORK", 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, statement := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.Database(t))
	name := conn.Config().Database + "_ascii"
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'SQL_ASCII'"); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(conn.Config().ConnString(), conn.Config().Database, name, 1)
	s := open(t, dsn)
	if err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "SQL_ASCII") {
		t.Errorf("Migrate = %v, want an error about SQL_ASCII", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
		t.Error(err)
	}
}
