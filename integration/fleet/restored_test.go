package fleet_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// longLease is longer than what is done to the database takes: no instance forgets
// because its lease has run out.
const longLease = 20 * time.Second

// wantNothing checks that no server lets a request through that began after the
// answer, and says how many were sent.
func (l *load) wantNothing(tb testing.TB, what string, answered time.Time) {
	tb.Helper()
	before := l.total()
	eventually(tb, "requests are sent after the answer", func() bool { return l.total() > before+100 })
	l.stop()
	l.wantNoneAfter(tb, answered)
	tb.Logf("%s: requests sent after the answer: %d, of them let in: %d", what, l.since(answered, l.sent), l.since(answered, l.accepted))
}

// gone revokes a key whose row is not there, in one of the ways that there are.
// Each says that there is none, or nothing.
type gone struct {
	name string
	do   func(f *fleet, id store.ID) error
}

var goneWays = []gone{
	{"REST", func(f *fleet, id store.ID) error {
		var status int
		var body string
		eventually(f.tb, "there is an answer", func() bool {
			status, body, _ = f.instances[0].revoke(&store.Key{ID: id})
			return status != http.StatusServiceUnavailable
		})
		if status != http.StatusNotFound {
			return fmt.Errorf("it says %d %s", status, body)
		}
		return nil
	}},
	{"GraphQL", func(f *fleet, id store.ID) error {
		body := fmt.Sprintf(`{"query":"mutation { adminDeleteSystemKey(id: \"%s\") { id } }"}`, id)
		request, err := http.NewRequestWithContext(f.tb.Context(), http.MethodPost, "http://"+f.instances[0].address+"/v1/gql", strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+f.adminKey)
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		answer := make([]byte, 4096)
		n, _ := response.Body.Read(answer)
		if !strings.Contains(string(answer[:n]), "not_found") {
			return fmt.Errorf("it says %s", answer[:n])
		}
		return nil
	}},
	{"the command line", func(f *fleet, id store.ID) error {
		_, said, err := f.command("revoke", id.String(), "--yes")
		if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(said, "no such key") {
			return fmt.Errorf("it says %q: %w", said, err)
		}
		return nil
	}},
	{"SQL", func(f *fleet, id store.ID) error {
		out, err := f.psqlEach("CALL sidecar.revoke('" + id.String() + "')")
		if err != nil {
			return fmt.Errorf("it says %s: %w", out, err)
		}
		return nil
	}},
}

// revokeGone revokes the key under load, and checks that the answer is true.
func (f *fleet) revokeGone(way gone, what string, key *store.Key, l *load) {
	f.tb.Helper()
	if err := way.do(f, key.ID); err != nil {
		f.tb.Errorf("%s, %s: %v", what, way.name, err)
	}
	l.wantNothing(f.tb, what+", "+way.name, time.Now())
}

// TestRestoredDumpHasNoRow restores a dump from before the key was minted into the
// live database.
func TestRestoredDumpHasNoRow(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, longLease, "")
	dump := filepath.Join(t.TempDir(), "dump")
	mustRun(t, "pg_dump", "--format=custom", "--file="+dump, f.dsn)
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	mustRun(t, "pg_restore", "--clean", "--single-transaction", "--dbname="+f.dsn, dump)
	f.revokeGone(goneWays[0], "a dump restored", key, l)
}

// save keeps a copy of the database's folder. What it returns stops the database and
// puts the copy in place.
func (f *fleet) save() (folder string, restore func()) {
	f.tb.Helper()
	data, saved := filepath.Join(f.postgres.Folder(), "data"), filepath.Join(f.tb.TempDir(), "saved")
	f.postgres.Stop()
	mustRun(f.tb, "cp", "-a", data, saved)
	f.postgres.Start()
	return data, func() {
		f.postgres.Stop()
		mustRun(f.tb, "rm", "-rf", data)
		mustRun(f.tb, "cp", "-a", saved, data)
	}
}

// TestRestoredFolderHasNoRow copies the data folder back to what it was before the
// key was minted; once as it was, and once as a standby that had not got the commit
// and is promoted. Nothing but INSERTs are lost.
func TestRestoredFolderHasNoRow(t *testing.T) {
	t.Parallel()
	for _, promoted := range []bool{false, true} {
		t.Run(fmt.Sprint("promoted ", promoted), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, longLease, "")
			data, restore := f.save()
			f.mintEventually("a sign of life")
			key, plain := f.mint("bot")
			l := hammer(t, key, plain, f.instances...)
			restore()
			if promoted {
				if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			f.postgres.Start()
			if promoted {
				f.mustPSQLEventually("SELECT pg_promote()")
			}
			f.revokeGone(goneWays[0], fmt.Sprint("a folder restored, promoted ", promoted), key, l)
		})
	}
}

// TestRestoredTriggersHaveLoggedNothing deletes a row around the triggers, which
// are there again before anybody can see that they were not.
func TestRestoredTriggersHaveLoggedNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, longLease, "")
	for _, way := range goneWays {
		key, plain := f.mint("bot")
		l := hammer(t, key, plain, f.instances...)
		f.mustPSQL(`BEGIN; ALTER TABLE system_keys DISABLE TRIGGER USER; DELETE FROM system_keys WHERE id = '` + key.ID.String() + `';
			DO $$ DECLARE name text; BEGIN FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'system_keys'::regclass AND tgname LIKE 'sidecar%' LOOP
				EXECUTE format('ALTER TABLE system_keys ENABLE ALWAYS TRIGGER %I', name); END LOOP; END $$; COMMIT`)
		f.revokeGone(way, "triggers taken away for a moment", key, l)
	}
}

// TestRestoredToBeforeAnInsertShows restores the data folder and revokes nothing:
// the servers find out by themselves that the key is not there.
func TestRestoredToBeforeAnInsertShows(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, longLease, "")
	_, restore := f.save()
	f.mintEventually("a sign of life")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	eventually(t, "every server has read on to the insert", func() bool {
		progress, err := f.store.Progress(t.Context(), nil, nil)
		return err == nil && len(progress.Members) == 2 &&
			!slices.ContainsFunc(progress.Members, func(m store.Member) bool { return m.Applied < progress.Head.Rev })
	})
	restore()
	f.postgres.Start()
	l.wantRefused(t, longLease/2)
	l.stop()
}
