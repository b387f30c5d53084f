package verify_test

import (
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// meter counts what it is told.
type meter struct {
	observe.Unmetered

	mu    sync.Mutex
	calls map[observe.Path]int
	found map[observe.Outcome]int
	last  time.Duration
}

func (m *meter) Verified(path observe.Path, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls == nil {
		m.calls = make(map[observe.Path]int)
	}
	m.calls[path]++
	m.last = took
}

func (m *meter) Adopted(outcome observe.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.found == nil {
		m.found = make(map[observe.Outcome]int)
	}
	m.found[outcome]++
}

// outcomes returns what it was told of adoption since it was asked last.
func (m *meter) outcomes() map[observe.Outcome]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := maps.Clone(m.found)
	clear(m.found)
	return found
}

// told returns what it was told since it was asked last.
func (m *meter) told() map[observe.Path]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := maps.Clone(m.calls)
	clear(m.calls)
	return calls
}

func TestEachVerificationCountsUnderItsPath(t *testing.T) {
	t.Parallel()
	m := new(meter)
	f := newFixture(t, func(c *verify.Config) { c.Meter = m })
	f.clock.freeze()
	id, key := f.mint(t, "one")

	want := func(when string, want map[observe.Path]int) {
		t.Helper()
		if diff := cmp.Diff(want, m.told()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	mustVerify(t, f, key)
	// The request that looked the key up then finds it in memory, like the others
	// that waited, and only checks that began there are timed.
	want("the first time", map[observe.Path]int{observe.PathArgon2id: 1})
	f.clock.advance(maxAge)
	mustVerify(t, f, key)
	want("when the entry ran out", map[observe.Path]int{observe.PathRow: 1})
	mustRefuse(t, f, f.minter.Mint(id, [32]byte{1}), verify.ReasonMismatch)
	want("another's secret", map[observe.Path]int{observe.PathRow: 1})
	mustRefuse(t, f, "lm_sys_x", verify.ReasonUnminted)
	f.store.remove(id)
	f.verifier.Forget(id)
	mustRefuse(t, f, key, verify.ReasonRevoked)
	want("what is never verified", map[observe.Path]int{})
}

func TestAProofCountsAsOne(t *testing.T) {
	t.Parallel()
	a, m := withFixtureProofs(t), new(meter)
	_, key := a.mint(t, "one")
	mustVerify(t, a, key)
	b := newFixture(t, a.withProofs, func(c *verify.Config) { c.Store, c.Minter, c.Meter = a.store, a.minter, m })
	mustVerify(t, b, key)
	if diff := cmp.Diff(map[observe.Path]int{observe.PathProof: 1}, m.told()); diff != "" {
		t.Error(diff)
	}
}

func TestChecksFromMemoryAreAllCountedAndSomeTimed(t *testing.T) {
	t.Parallel()
	m := new(meter)
	f := newFixture(t, func(c *verify.Config) { c.Meter = m })
	f.clock.freeze()
	_, key := f.mint(t, "one")
	mustVerify(t, f, key)
	m.told()
	for range 1024 {
		mustVerify(t, f, key)
	}
	if n := f.verifier.Stats().Remembered; n != 1024 {
		t.Errorf("%d of 1024 checks were counted", n)
	}
	if diff := cmp.Diff(map[observe.Path]int{observe.PathMemory: 4}, m.told()); diff != "" {
		t.Error(diff)
	}
}
