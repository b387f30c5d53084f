package open_test

import (
	"path/filepath"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store/open"
)

func TestADSNNamesTheDriver(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]open.Location{
		"sqlite:///var/lib/keys.db":  {Driver: open.SQLite, Name: "/var/lib/keys.db"},
		"postgres://db.example/keys": {Driver: open.Postgres, Name: "postgres://db.example/keys"},
		"postgresql:///keys":         {Driver: open.Postgres, Name: "postgresql:///keys"},
		"sqlite://keys.db":           {},
		"sqlite:///keys.db?mode=ro":  {},
		"postgres://a:top%secret@b/": {},
		"mysql://localhost/keys":     {},
		"/var/lib/keys.db":           {},
		"":                           {},
	} {
		got, err := open.DSN(dsn)
		if err == nil && got != want || (err != nil) != (want == open.Location{}) {
			t.Errorf("%q is %+v, %v", dsn, got, err)
		}
	}
}

// TestAFolderIsMadeForAFileThatMayBeMade and for no other.
func TestAFolderIsMadeForAFileThatMayBeMade(t *testing.T) {
	t.Parallel()
	l := open.Location{Driver: open.SQLite, Name: filepath.Join(t.TempDir(), "new", "keys.db")}
	for _, c := range []struct {
		make  bool
		with  open.Options
		fails bool
	}{
		{fails: true},
		{make: true, with: open.Options{MustExist: true}, fails: true},
		{make: true},
		{with: open.Options{MustExist: true}},
	} {
		l.MakeFolder = c.make
		s, err := l.Open(t.Context(), c.with)
		if (err != nil) != c.fails {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestASchemaIsCheckedWithTheDSN(t *testing.T) {
	t.Parallel()
	for schema, good := range map[string]bool{"": true, "keys": true, "sidecar": false, "pg_keys": false} {
		l := open.Location{Driver: open.Postgres, Name: "postgres://db/keys", Schema: schema}
		if err := l.Check(); (err == nil) != good {
			t.Errorf("%q: %v", schema, err)
		}
	}
}

func TestAnUnknownDriverIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := (open.Location{Driver: "mysql", Name: "keys"}).Open(t.Context(), open.Options{}); err == nil {
		t.Error("it was opened")
	}
}

// TestALocationSaysWhereTheStoreIsWithoutAPassword in the forms of a DSN.
func TestALocationSaysWhereTheStoreIsWithoutAPassword(t *testing.T) {
	t.Parallel()
	for l, want := range map[open.Location]string{
		{Driver: open.SQLite, Name: "/var/lib/keys.db"}:                                           "sqlite /var/lib/keys.db",
		{Driver: open.Postgres, Name: "postgres://app:hunter2@db:5433/lumio", Schema: "keys"}:     "postgres db:5433/lumio, schema keys",
		{Driver: open.Postgres, Name: "postgres://app:hunter2@a,b/lumio?sslmode=prefer"}:          "postgres a:5432,b:5432/lumio",
		{Driver: open.Postgres, Name: "host=db port=5433 user=app dbname=lumio password=hunter2"}: "postgres db:5433/lumio",
		{Driver: open.Postgres, Name: "postgres://app:hunt@er2@db/lumio"}:                         "postgres ",
	} {
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
