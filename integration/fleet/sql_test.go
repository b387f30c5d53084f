package fleet_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// mustPSQL runs statements in one transaction, as another service's administrator
// would.
func (f *fleet) mustPSQL(statements string) {
	f.tb.Helper()
	if out, err := f.psqlEach(statements); err != nil {
		f.tb.Fatalf("%v: %s", err, out)
	}
}

// Cases 2 and 4: what other services do to the rows is seen everywhere.
func TestPlainSQLIsSeenEverywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 10*time.Second, "")
	for _, c := range []struct{ name, statement string }{
		{"DELETE", `DELETE FROM system_keys WHERE id = '{id}'`},
		{"UPDATE of the hash", `UPDATE system_keys SET key_hash = '$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY' WHERE id = '{id}'`},
		{"expiry", `UPDATE system_keys SET expires_at = now() - interval '1 s' WHERE id = '{id}'`},
		{"DELETE as a replica", `SET session_replication_role = replica; DELETE FROM system_keys WHERE id = '{id}'`},
		{"DELETE by a foreign key", `CREATE TABLE owners (id int PRIMARY KEY); INSERT INTO owners VALUES (1);
			ALTER TABLE system_keys ADD COLUMN owner int REFERENCES owners ON DELETE CASCADE;
			UPDATE system_keys SET owner = 1 WHERE id = '{id}'; DELETE FROM owners`},
	} {
		key, plain := f.mint(c.name)
		l := hammer(t, key, plain, f.instances...)
		stream := openEvents(t, f.instances[2], plain)
		statement := strings.ReplaceAll(c.statement, "{id}", key.ID.String())
		asked := time.Now()
		f.mustPSQL(statement)
		l.wantRefused(t, promptly)
		stream.wantEnd(t, asked, promptly)
		l.stop()
		for _, i := range f.instances {
			t.Logf("%s: %s let the last request through %v after psql was started", c.name, i.name, l.last(i).Sub(asked).Round(time.Millisecond))
		}
	}

	// A permission that is taken is gone at once, one that is given costs nobody
	// a request.
	key, plain := f.mint("narrowed", "a:read", "b:read")
	l := hammer(t, key, plain, f.instances...)
	wide := openEvents(t, f.instances[0], plain)
	f.mustPSQL(`UPDATE system_keys SET permissions = '{"a:read","b:read","c:read"}', label = 'wider' WHERE id = '` + key.ID.String() + `'`)
	settle()
	select {
	case e := <-wide.ended:
		t.Errorf("a permission more has ended a stream: %v", e.err)
	default:
	}
	for _, i := range f.instances {
		if l.count(i, http.StatusUnauthorized)+l.count(i, http.StatusServiceUnavailable)+l.count(i, 0) > 0 {
			t.Errorf("a permission more has cost requests: %s", l.summary())
		}
	}
	narrowed := time.Now()
	f.mustPSQL(`UPDATE system_keys SET permissions = '{"b:read"}' WHERE id = '` + key.ID.String() + `'`)
	wide.wantEnd(t, narrowed, promptly)
	l.stop()

	// TRUNCATE ends all of them.
	key, plain = f.mint("one of all")
	l = hammer(t, key, plain, f.instances...)
	f.mustPSQL(`TRUNCATE system_keys`)
	l.wantRefused(t, promptly)
}

// Case 3: other services revoke by procedure, as roles that have no right on any
// table of ours, and have the same promise.
func TestRevokeProceduresOfOtherServices(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 10*time.Second, "")
	f.mustPSQL(`CREATE ROLE revoker; GRANT EXECUTE ON FUNCTION sidecar.delete_key TO revoker;
		CREATE ROLE deleter; GRANT SELECT, DELETE ON system_keys TO deleter`)
	for _, statements := range [][]string{
		{"SET ROLE revoker", "CALL sidecar.revoke('{id}')"},
		{"SET ROLE deleter", "CALL sidecar.revoke('{id}')"},
		{"SET ROLE deleter", "DELETE FROM system_keys WHERE id = '{id}'", "CALL sidecar.barrier()"},
	} {
		key, plain := f.mint("bot")
		l := hammer(t, key, plain, f.instances...)
		call := strings.Split(strings.ReplaceAll(strings.Join(statements, "; "), "{id}", key.ID.String()), "; ")
		if out, err := f.psqlEach(call...); err != nil {
			t.Fatalf("%v: %v: %s", call, err, out)
		}
		answered := time.Now()
		settle()
		l.stop()
		l.wantNoneAfter(t, answered)
		for _, i := range f.instances {
			if l.count(i, http.StatusUnauthorized) == 0 {
				t.Errorf("%v: %s", call, l.summary())
			}
		}
	}
	for _, refused := range []string{
		"SET ROLE revoker; DELETE FROM system_keys", "SET ROLE revoker; SELECT id FROM system_keys",
		"SET ROLE deleter; SELECT sidecar.delete_key('00000000-0000-0000-0000-000000000000')",
		"SET ROLE revoker; SELECT sidecar.append(ARRAY[NULL]::uuid[], 'b')", "SET ROLE revoker; SELECT * FROM sidecar.change_log",
		"SET ROLE revoker; SELECT * FROM sidecar.member", "SET ROLE revoker; DELETE FROM sidecar.member",
	} {
		out, err := f.psqlEach(strings.Split(refused, "; ")...)
		if err == nil || !strings.Contains(out, "permission denied") {
			t.Errorf("%s is not denied: %v: %s", refused, err, out)
		}
	}
	// What is not committed yet cannot be waited for.
	if out, err := f.psqlEach("BEGIN", "CALL sidecar.barrier()"); err == nil || !strings.Contains(out, "invalid transaction termination") {
		t.Errorf("a barrier in a transaction: %v: %s", err, out)
	}
}

// A procedure waits for a server that is silent as long as a revocation does.
func TestProcedureWaitsForALease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, shortLease, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	f.instances[1].link.BlackHole()
	began := time.Now()
	f.mustPSQL("CALL sidecar.revoke('" + key.ID.String() + "')")
	answered := time.Now()
	if took := answered.Sub(began); took < shortLease*8/10 {
		t.Errorf("it returned after %v", took)
	}
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
	f.instances[1].link.Heal()
}

// psqlEach runs each statement in a transaction of its own, in one session.
func (f *fleet) psqlEach(statements ...string) (string, error) {
	f.tb.Helper()
	arguments := []string{"--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qAtX"}
	for _, statement := range statements {
		arguments = append(arguments, "-c", statement)
	}
	out, err := exec.CommandContext(f.tb.Context(), "psql", append(arguments, f.dsn)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
