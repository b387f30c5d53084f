package sqlstore_test

import (
	"database/sql"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var migrations = sqlstore.LoadMigrations(fstest.MapFS{
	"migrations/0001_first.sql":  {Data: []byte("first")},
	"migrations/0002_1_half.sql": {Data: []byte("sec")},
	"migrations/0002_2_half.sql": {Data: []byte("ond")},
	"migrations/README.md":       {Data: []byte("no migration")},
})

func TestMigrationsAreAppliedInTheirOrder(t *testing.T) {
	t.Parallel()
	version, applied := 0, []string{}
	failure := errors.New("disk full")
	apply := func(next sqlstore.Migration) error {
		applied = append(applied, next.Name+": "+next.Script)
		if len(applied) == 2 { // another instance was faster, or nothing was done
			return nil
		}
		version = next.Version
		return nil
	}
	if err := migrations.Run("the schema", func() (int, error) { return version, nil }, apply); err != nil {
		t.Fatal(err)
	}
	want := []string{"0001_first.sql: first", "0002_1_half.sql: second", "0002_1_half.sql: second"}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Error(diff)
	}
	if err := migrations.Run("the schema", func() (int, error) { return 0, failure }, apply); !errors.Is(err, failure) {
		t.Errorf("a version that cannot be read: %v", err)
	}
	failing := func(sqlstore.Migration) error { return failure }
	if err := migrations.Run("the schema", func() (int, error) { return 1, nil }, failing); !errors.Is(err, failure) {
		t.Errorf("a migration that fails: %v", err)
	}
}

func TestOnlyTheNewestSchemaIsExported(t *testing.T) {
	t.Parallel()
	for version, good := range map[int]bool{0: false, 1: false, 2: true, 3: false} {
		if err := migrations.Newest(version); (err == nil) != good {
			t.Errorf("version %d: %v", version, err)
		}
	}
	err := migrations.Run("the schema", func() (int, error) { return 3, nil }, nil)
	if _, refused := errors.AsType[*store.RefusedError](err); !refused || !strings.Contains(err.Error(), "the schema has version 3") {
		t.Errorf("a schema that is too new: %v", err)
	}
}

func TestPruningStopsAtTheFirstRecordThatIsKept(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 0)
	row := func(seq int64, at time.Time, records int) sqlstore.AuditEnd {
		return sqlstore.AuditEnd{ID: store.NewAuditID(at), Link: store.AuditLink{Seq: seq}, Records: records}
	}
	rows := []sqlstore.AuditEnd{row(4, at, 1), row(7, at.Add(time.Hour), 3), row(8, at, 1)} // another clock
	for _, c := range []struct {
		floor    time.Duration
		limit, n int
		seq      int64
	}{{-time.Second, 9, 0, 0}, {time.Minute, 9, 1, 4}, {2 * time.Hour, 9, 5, 8}, {2 * time.Hour, 2, 4, 7}, {2 * time.Hour, 4, 4, 7}} {
		n, last := sqlstore.Prunable(rows, store.AuditFloor(at.Add(c.floor)), c.limit)
		if n != c.n || last.Seq != c.seq {
			t.Errorf("%+v: %d records, the last is %d", c, n, last.Seq)
		}
	}
}

func TestOnlyAUUIDIsAnID(t *testing.T) {
	t.Parallel()
	scan := func(value any) (id store.ID, err error) {
		err = sqlstore.ID(&id).(interface{ Scan(value any) error }).Scan(value)
		return id, err
	}
	want := store.ID{1}
	if id, err := scan(want.String()); err != nil || id != want {
		t.Errorf("%v: %v", id, err)
	}
	if id, err := scan(nil); err != nil || id != (store.ID{}) {
		t.Errorf("NULL is %v: %v", id, err)
	}
	for _, bad := range []any{"x", "", 7, []byte{1}} {
		if _, err := scan(bad); err == nil {
			t.Errorf("%v is an id", bad)
		}
	}
}

// rowOf is a row of values, as a driver hands them to a Scanner.
type rowOf []any

func (r rowOf) Scan(dest ...any) error {
	for i, value := range r {
		switch list := dest[i].(type) {
		case *[]string:
			*list, _ = value.([]string)
			continue
		case *[]netip.Prefix:
			*list, _ = value.([]netip.Prefix)
			continue
		}
		if err := dest[i].(sql.Scanner).Scan(value); err != nil {
			return err
		}
	}
	return nil
}

func TestATimeOfAKeyMayBeMissing(t *testing.T) {
	t.Parallel()
	texts, prefixes := func(texts *[]string) any { return texts }, func(networks *[]netip.Prefix) any { return networks }
	fence := []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.1/104"), netip.MustParsePrefix("10.0.0.0/8")}
	at := time.UnixMicro(1_800_000_000_000_000).UTC()
	for name, c := range map[string]struct {
		value any
		want  time.Time
	}{
		"NULL": {nil, time.Time{}}, "0": {int64(0), time.Time{}}, "without end": {"infinity", time.Time{}},
		"microseconds": {at.UnixMicro(), at}, "a time": {at.Local(), at},
	} {
		key, err := sqlstore.ScanKey(rowOf{nil, "bot", []string{"b:x", "a:x", "b:x"}, int64(1), int64(0), "cli", c.value, c.value, int64(1), fence, nil, nil, nil, nil, []string(nil)}, texts, prefixes)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := &store.Key{
			Label: "bot", Permissions: []string{"a:x", "b:x"}, IsSystem: true, CreatedAt: time.UnixMicro(0).UTC(), CreatedBy: "cli",
			ExpiresAt: c.want, LastUsedAt: c.want, Networks: store.Networks{fence[1]},
		}
		if diff := cmp.Diff(want, key); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, bad := range []any{"2026-01-01", 1.5, []byte("infinity")} { // which must not mean that a key has no end
		if _, err := sqlstore.ScanKey(rowOf{nil, "bot", nil, false, int64(0), "cli", bad, nil, true, nil, nil, nil, nil, nil, nil}, texts, prefixes); err == nil {
			t.Errorf("%v is a time", bad)
		}
	}
	if key, err := sqlstore.ScanKey(rowOf(make([]any, 15)), texts, prefixes); err != nil || key.Permissions == nil || key.Networks != nil {
		t.Errorf("a row of NULL: %+v, %v", key, err)
	}
}
