package coherence_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutant is the program with one of its rules left out.
type mutant struct {
	name string
	// file is relative to this folder; old stands in it once.
	file, old, new string
	// environment is for what is left out of the database.
	environment string
	// directed is the test that finds it, where schedules at random seldom do.
	directed string
}

var mutants = []mutant{
	{
		name: "the lease is not checked",
		file: "lease.go",
		old:  "if g == nil || !g.covers(l.clock.split(now)) {\n\t\treturn LeaseNone",
		new:  "if g == nil {\n\t\treturn LeaseNone",
	},
	{
		name: "a fill is stored although the key was forgotten meanwhile",
		file: "../verify/l1.go",
		old:  "if c.stripe(id).Load() != g.stripe {",
		new:  "if false {",
	},
	{
		name:        "changes are numbered before they are committed",
		environment: plainSequenceVariable + "=1",
	},
	{
		name:        "a key that is gone is answered for without an entry",
		environment: goneUnloggedVariable + "=1",
	},
	{
		name:        "inserts do not move the place",
		environment: insertsUnloggedVariable + "=1",
	},
	{
		name: "a revocation waits for nobody",
		file: "revoker.go",
		old:  "return len(w.members) == 0\n",
		new:  "return true\n",
	},
	{
		name: "a revocation waits for half a lease",
		file: "revoker.go",
		old:  "return now.Sub(w.committed) >= m.TTL })",
		new:  "return now.Sub(w.committed) >= m.TTL/2 })",
	},
	{
		name: "a change is acknowledged and not applied",
		file: "turn.go",
		old:  "\tcase store.KeyDeleted:\n\t\tf.config.Forget(change.Key)\n",
		new:  "\tcase store.KeyDeleted:\n",
	},
	{
		name: "a row is believed without the place that was seen",
		file: "../../store/seen.go",
		old:  "return last.origin, last.place",
		new:  "return last.origin, Position{}",
	},
	{
		name: "requests in flight go on",
		file: "turn.go",
		old:  "return f.config.InFlight.Cut(change.Key, cut.ErrRevoked), nil",
		new:  "return 0 * f.config.InFlight.Cut(store.ID{}, cut.ErrRevoked), nil",
	},
	{
		name: "a place in another history passes for one in this",
		file: "turn.go",
		old:  "if !view.InLog {",
		new:  "if false {",
	},
	{
		name: "an instance that was removed keeps its lease",
		file: "turn.go",
		old:  "f.config.Lease.drop()\n\t\tf.joined = false\n\t\tf.failed(errRemoved)\n\t\treturn true, nil",
		new:  "f.config.Lease.extend(t0, LeaseCached)\n\t\treturn false, nil",
	},
	{
		name:     "the lease counts from the answer",
		file:     "turn.go",
		old:      "f.config.Lease.extend(t0, state)",
		new:      "f.config.Lease.extend(f.config.Now(), state)",
		directed: "TestLeaseCountsFromBeforeTheTurnWasSent",
	},
	{
		name:     "the lease is extended before changes are applied",
		file:     "turn.go",
		old:      "applied, err := f.apply(ctx, feed, view)",
		new:      "_ = f.extend(ctx, view, t0)\n\tapplied, err := f.apply(ctx, feed, view)",
		directed: "TestNoLeaseBeforeAChangeIsApplied",
	},
	{
		name:     "the reaper counts from before its question",
		file:     "reaper.go",
		old:      "f.reaper.dead(view.Silent, f.config.Now())",
		new:      "f.reaper.dead(view.Silent, f.Place().Turned)",
		directed: "TestReaperCountsFromTheAnswer",
	},
	{
		name:     "memory outlives a lease that has lapsed",
		file:     "turn.go",
		old:      "if lapsed {",
		new:      "if false {",
		directed: "TestMemoryDoesNotOutliveALapsedLease",
	},
	{
		name:     "the wall clock is not looked at",
		file:     "lease.go",
		old:      "return mono < g.length && wall < g.length && mono-wall <= maxStepBack",
		new:      "return mono < g.length || wall > 0 && mono < g.length",
		directed: "TestLeaseUnderASuspendedMachine",
	},
	{
		name:     "clocks whose rates differ by one per cent break the promise",
		file:     "lease.go",
		old:      "length: l.ttl * 98 / 100}",
		new:      "length: l.ttl}",
		directed: "TestDriftingClocks",
	},
}

// TestMutants checks the check: the simulation finds every rule that is left out,
// or a directed schedule does. Each mutant is compiled and tested by a go test of its
// own, so that all of them are for `make soak`. Otherwise two stand for all, and it is
// checked that the others still fit the source.
func TestMutants(t *testing.T) {
	t.Parallel()
	all := os.Getenv("SOAK") != ""
	for i, m := range mutants {
		if !all && i > 0 && i < len(mutants)-1 {
			if m.file != "" {
				m.overlay(t)
			}
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			failure := "repeat it with"
			if m.directed != "" {
				failure = "--- FAIL: " + m.directed
			}
			if out, err := m.run(t); err == nil || !strings.Contains(out, failure) {
				t.Errorf("it was not found: %v\n%s", err, out)
			}
		})
	}
}

// run has the mutant, which is built beside the program, tested until a test
// fails.
func (m *mutant) run(t *testing.T) (string, error) {
	t.Helper()
	test := m.directed
	if test == "" {
		test = "TestSimulation"
	}
	arguments := []string{"test", "-count=1", "-run", "^" + test + "$"}
	if m.file != "" {
		arguments = append(arguments, "-overlay", m.overlay(t))
	}
	command := exec.CommandContext(t.Context(), "go", arguments...)
	command.Env = append(os.Environ(), seedsVariable+"=200", m.environment)
	out, err := command.CombinedOutput()
	return string(out), err
}

func (m *mutant) overlay(t *testing.T) string {
	t.Helper()
	original, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has the text %d times, not once:\n%s", m.file, n, m.old)
	}
	folder := t.TempDir()
	mutated := filepath.Join(folder, "mutated.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "overlay.json")
	for name, content := range map[string][]byte{
		mutated: []byte(strings.Replace(string(source), m.old, m.new, 1)), file: overlay,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}
