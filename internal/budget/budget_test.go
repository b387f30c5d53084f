package budget_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/budget"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newBudget(t *testing.T, limit budget.Limit, size int) (*budget.Budget, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	b, err := budget.New(limit, size, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return b, c
}

func TestABudgetIsSpentAndComesBack(t *testing.T) {
	t.Parallel()
	b, c := newBudget(t, budget.Limit{Count: 6, Window: time.Minute}, 8)
	for i := range 6 {
		if wait := b.Fail("192.0.2.1"); wait != 0 {
			t.Fatalf("failure %d has to wait %s", i, wait)
		}
	}
	// One is forgotten every ten seconds.
	for range 100 {
		if wait := b.Fail("192.0.2.1"); wait != 10*time.Second {
			t.Fatalf("beyond the budget the wait is %s", wait)
		}
	}
	c.at = c.at.Add(4 * time.Second)
	if wait := b.Fail("192.0.2.1"); wait != 6*time.Second {
		t.Errorf("after four seconds the wait is %s", wait)
	}
	c.at = c.at.Add(6 * time.Second)
	if wait := b.Fail("192.0.2.1"); wait != 0 {
		t.Errorf("after ten seconds the wait is %s", wait)
	}
	if wait := b.Fail("192.0.2.1"); wait != 10*time.Second {
		t.Errorf("the next one has to wait %s", wait)
	}
	c.at = c.at.Add(time.Hour)
	for i := range 6 {
		if wait := b.Fail("192.0.2.1"); wait != 0 {
			t.Fatalf("after an hour failure %d has to wait %s", i, wait)
		}
	}
	if wait := b.Fail("192.0.2.1"); wait == 0 {
		t.Error("an hour was saved up")
	}
}

func TestWhoseFailuresCountTogether(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first, second string
		together      bool
	}{
		"one address":                       {"192.0.2.1", "192.0.2.1", true},
		"two addresses":                     {"192.0.2.1", "192.0.2.2", false},
		"IPv4, written as IPv6":             {"192.0.2.1", "::ffff:192.0.2.1", true},
		"two of those":                      {"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		"one network of IPv6":               {"2001:db8::1", "2001:db8::ffff:1:2:3", true},
		"two networks of IPv6":              {"2001:db8::1", "2001:db8:0:1::1", false},
		"an address of a link, two of them": {"fe80::1%eth0", "fe80::2%eth1", true},
		"no address":                        {"", "", false},
		"a name":                            {"localhost", "localhost", false},
		"a socket":                          {"@", "@", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newBudget(t, budget.Limit{Count: 1, Window: time.Minute}, 8)
			if wait := b.Fail(test.first); wait != 0 {
				t.Fatalf("the first has to wait %s", wait)
			}
			if wait := b.Fail(test.second); (wait != 0) != test.together {
				t.Errorf("the second has to wait %s", wait)
			}
		})
	}
}

// TestManyAddressesTakeNoMoreMemory has a client with a network of its own, and
// one that is forgotten for it.
func TestManyAddressesTakeNoMoreMemory(t *testing.T) {
	t.Parallel()
	b, _ := newBudget(t, budget.Limit{Count: 1, Window: time.Hour}, budget.Size)
	b.Fail("192.0.2.1")
	fill := func() uint64 {
		for i := range 4 * budget.Size {
			if wait := b.Fail(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff)); wait != 0 {
				t.Fatalf("a new address has to wait %s", wait)
			}
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	first := fill()
	if second := fill(); second > first+8<<20 {
		t.Errorf("memory grew from %d to %d bytes", first, second)
	}
	if wait := b.Fail("192.0.2.1"); wait != 0 {
		t.Errorf("who was pushed out has to wait %s", wait)
	}
}

func TestABudgetIsSpentOnceByManyAtOnce(t *testing.T) {
	t.Parallel()
	b, _ := newBudget(t, budget.Limit{Count: 100, Window: time.Hour}, 8)
	var within atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if b.Fail("192.0.2.1") == 0 {
					within.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := within.Load(); n != 100 {
		t.Errorf("%d failures were within a budget of 100", n)
	}
}

func TestLimitsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]budget.Limit{
		"none":              {},
		"no failure":        {Count: 0, Window: time.Minute},
		"fewer than none":   {Count: -1, Window: time.Minute},
		"too many":          {Count: budget.MaxCount + 1, Window: time.Minute},
		"no time":           {Count: 1},
		"less than no time": {Count: 1, Window: -time.Second},
		"too short":         {Count: 1, Window: time.Millisecond},
		"too long":          {Count: 1, Window: 25 * time.Hour},
	} {
		if _, err := budget.New(limit, 8, time.Now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
