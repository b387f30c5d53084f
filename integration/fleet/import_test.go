package fleet_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAMillionKeysAreImportedUnderLoad has another service insert keys while clients
// use one: all in one statement, and then each in a transaction of its own. It has
// 20,000 keys unless the environment has SOAK=1. That nothing is forgotten for
// it is for TestWhatAChangeCuts of package coherence to show.
func TestAMillionKeysAreImportedUnderLoad(t *testing.T) {
	t.Parallel()
	count := 20_000
	if os.Getenv("SOAK") == "1" {
		count = 1_000_000
	}
	f := newFleet(t, 2, 10*time.Second, "")
	kept, plain := f.mint("in use all the time")
	l := hammer(t, kept, plain, f.instances...)
	const rounds = 5
	usual := f.revocations(rounds)

	const row = "gen_random_uuid(), 'imported', '$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY'"
	single := filepath.Join(t.TempDir(), "single.sql")
	insert := "INSERT INTO system_keys (id, label, key_hash) VALUES (" + row + ");\n"
	if err := os.WriteFile(single, []byte(strings.Repeat(insert, count/100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, arguments := range map[string][]string{
		"one statement":          {"-c", fmt.Sprintf("INSERT INTO system_keys (id, label, key_hash) SELECT %s FROM generate_series(1, %d)", row, count)},
		"a transaction for each": {"-f", single},
	} {
		began := time.Now()
		imported := make(chan struct{})
		go func() {
			defer close(imported)
			mustRun(t, "psql", append([]string{"--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qX", f.dsn}, arguments...)...)
		}()
		var during []time.Duration
		for over := false; !over; {
			during = append(during, f.revocations(1)...)
			select {
			case <-imported:
				over = true
			default:
			}
		}
		took := time.Since(began)
		t.Logf("%s: imported in %v; revocations take %v (usually %v)", name, took.Round(time.Millisecond), middle(during), middle(usual))
		if middle(during) > middle(usual)+time.Second {
			t.Errorf("%s: during the import revocations take %v", name, during)
		}
	}
	l.stop()
	for _, i := range f.instances {
		if n := l.count(i, http.StatusServiceUnavailable) + l.count(i, http.StatusUnauthorized); n > 0 {
			t.Errorf("%s: %s", i.name, l.summary())
		}
		if strings.Contains(i.tail(), "everything is forgotten") {
			t.Errorf("%s has forgotten everything", i.name)
		}
	}
}

// revocations revokes keys, one behind the other, and says how long each took.
func (f *fleet) revocations(n int) (all []time.Duration) {
	f.tb.Helper()
	for range n {
		key, _ := f.mint("to be revoked")
		status, body, took := f.instances[0].revoke(key)
		if status != http.StatusOK {
			f.tb.Fatalf("%d %s", status, body)
		}
		all = append(all, took)
	}
	return all
}

// middle is the median.
func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(time.Millisecond)
}
