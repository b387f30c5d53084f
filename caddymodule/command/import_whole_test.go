package command_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// until waits for a condition.
func until(tb testing.TB, what string, met func() bool) {
	tb.Helper()
	for began := time.Now(); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			tb.Fatalf("not in a minute: %s", what)
		}
	}
}

// TestAnImportThatIsKilledLeavesNothing stops it between two batches.
func TestAnImportThatIsKilledLeavesNothing(t *testing.T) {
	t.Parallel()
	m := intoPostgres(t)
	ours := strings.TrimPrefix(m.env[0], "OURS=")
	execSQL(t, m.theirs, rustTable+`INSERT INTO keys SELECT gen_random_uuid(), 'key ' || n, '`+theirHash+`' FROM generate_series(1, 2000) n`)
	execSQL(t, ours, `CREATE SEQUENCE batches; CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF nextval('batches') = 3 THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN NULL; END $$;
CREATE TRIGGER halt AFTER INSERT ON system_keys FOR EACH STATEMENT EXECUTE FUNCTION halt()`)
	holder, err := pgx.Connect(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(42)"); err != nil {
		t.Fatal(err)
	}
	cmd := m.command("import", "--from", "{env.THEIRS}", "--store", m.store, "--table", "keys")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the third batch is written", func() bool {
		return querySQL[bool](t, ours, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted)")
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock(42)"); err != nil {
		t.Fatal(err)
	}
	until(t, "the transaction is over", func() bool {
		return querySQL[int](t, ours, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'caddy-system-keys'") == 0
	})
	if n := querySQL[int](t, ours, "SELECT count(*)::int FROM system_keys"); n != 0 {
		t.Errorf("%d keys are there", n)
	}
	execSQL(t, ours, "DROP TRIGGER halt ON system_keys")
	if out, _ := m.importKeys(0); !strings.Contains(out, "2000 row(s): 2000 fit") {
		t.Errorf("after it, it said %s", out)
	}
}

func TestManyKeysAreImported(t *testing.T) {
	t.Parallel()
	count := 10_000
	if os.Getenv("SOAK") == "1" {
		count = 1_000_000
	}
	m := intoPostgres(t)
	execSQL(t, m.theirs, rustTable+fmt.Sprintf(`INSERT INTO keys SELECT gen_random_uuid(), 'key ' || n, '%s', '{a:b}' FROM generate_series(1, %d) n`, theirHash, count))
	cmd := m.command("import", "--from", "{env.THEIRS}", "--store", m.store, "--table", "keys")
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), fmt.Sprintf("Imported %d key(s)", count)) || strings.Contains(string(output), "\r") {
		t.Fatalf("%v %s", err, output)
	}
	ours := strings.TrimPrefix(m.env[0], "OURS=")
	if n := querySQL[int](t, ours, "SELECT count(*)::int FROM system_keys WHERE NOT minted AND created_by = 'import'"); n != count {
		t.Errorf("%d keys are there", n)
	}
	rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	t.Logf("%d keys in %v, with %d MiB", count, cmd.ProcessState.SystemTime()+cmd.ProcessState.UserTime(), rss>>10)
	if rss > 300<<10 {
		t.Errorf("it took %d KiB", rss)
	}
}
