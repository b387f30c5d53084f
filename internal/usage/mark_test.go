package usage_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var key = store.ID{1}

// written flushes, and checks what the sink has of the key.
func written(t *testing.T, s *sink, r *usage.Recorder, days map[string][2]int64, networks map[string]int64) {
	t.Helper()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gotDays, gotNetworks := map[string][2]int64{}, map[string]int64{}
	for at, use := range s.days {
		gotDays[at.day.String()] = [2]int64{use.Requests, use.Denied}
	}
	for at, use := range s.from {
		gotNetworks[at.network.String()] = use.Requests
	}
	if diff := cmp.Diff(days, gotDays, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("days differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(networks, gotNetworks, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("networks differ (-want +got):\n%s", diff)
	}
}

func TestUsesCountToTheirDayAndNetwork(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	defer func() { _ = r.Close(t.Context()) }()
	m := r.Mark(key)
	for _, address := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.9", "::ffff:192.0.2.3", "198.51.100.1", "2001:db8:7:1::1", "2001:db8:7::1%eth0", "", "@"} {
		m.Use(address, noon)
	}
	m.Use("192.0.2.1", noon.Add(12*time.Hour-time.Microsecond))
	m.Use("192.0.2.1", noon.Add(12*time.Hour))
	days := map[string][2]int64{"2026-11-22": {10, 0}, "2026-11-23": {1, 0}}
	networks := map[string]int64{"192.0.2.0/24": 6, "198.51.100.0/24": 1, "2001:db8:7::/48": 2}
	written(t, s, r, days, networks)
	written(t, s, r, days, networks) // and once only
	m.Use("192.0.2.1", noon.Add(13*time.Hour))
	days["2026-11-23"], networks["192.0.2.0/24"] = [2]int64{2, 0}, 7
	written(t, s, r, days, networks)
	if first := s.first[key]; !first.Equal(noon) {
		t.Errorf("the first use is %v", first)
	}
	if last := s.from[from{key, netip.MustParsePrefix("192.0.2.0/24")}].LastAt; !last.Equal(noon.Add(13 * time.Hour)) {
		t.Errorf("the last use from the network is %v", last)
	}
}

func TestRefusalsCountWithAndWithoutAUse(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	defer func() { _ = r.Close(t.Context()) }()
	r.Mark(key).Use("192.0.2.1", noon)
	r.Deny(key, noon, true)
	r.Deny(key, noon, false)
	written(t, s, r, map[string][2]int64{"2026-11-22": {2, 2}}, map[string]int64{"192.0.2.0/24": 1})
	if !s.at(key).Equal(noon) {
		t.Errorf("the last use is %v", s.at(key))
	}
}

func TestWhatWasAskedIsWrittenWithItsTime(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	defer func() { _ = r.Close(t.Context()) }()
	m := r.Mark(key)
	m.Use("", noon)
	m.Ask("a:read")
	m.Ask("b:read")
	m.Use("", noon.Add(time.Minute))
	m.Ask("b:read")
	r.Ask(key, "c:read", noon)
	r.Ask(key, "c:read", noon.Add(time.Second))
	written(t, s, r, map[string][2]int64{"2026-11-22": {2, 0}}, nil)
	m.Ask("a:read") // after the write, by the same request
	want := map[question]time.Time{
		{key, "a:read"}: noon, {key, "b:read"}: noon.Add(time.Minute), {key, "c:read"}: noon.Add(time.Second),
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
	written(t, s, r, map[string][2]int64{"2026-11-22": {2, 0}}, nil)
	if at := s.asked[question{key, "a:read"}]; !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("asked at %v", at)
	}
}

func TestWhatWasCountedOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	defer func() { _ = r.Close(t.Context()) }()
	m := r.Mark(key)
	s.setFail(errors.New("down"))
	for range 3 {
		m.Use("192.0.2.1", noon)
		m.Ask("a:read")
		r.Deny(key, noon, true)
		if err := r.Flush(t.Context()); err == nil {
			t.Fatal("the store is down")
		}
	}
	s.setFail(nil)
	written(t, s, r, map[string][2]int64{"2026-11-22": {3, 3}}, map[string]int64{"192.0.2.0/24": 3})
	if len(s.asked) != 1 {
		t.Errorf("asked: %v", s.asked)
	}
}

// TestAMillionRequestsAreCountedExactly has many clients use a few keys over midnight while
// the recorder flushes.
func TestAMillionRequestsAreCountedExactly(t *testing.T) {
	t.Parallel()
	s, r := start(t, 100*time.Microsecond)
	const keys, clients, rounds = 4, 10, 25_000
	var wg sync.WaitGroup
	for k := range keys {
		mark := r.Mark(store.ID{byte(k)})
		for c := range clients {
			wg.Go(func() {
				address := fmt.Sprintf("192.0.%d.%d", c%3, c)
				for i := range rounds {
					mark.Use(address, noon.Add(time.Duration(i%2)*12*time.Hour))
					mark.Ask("a:read")
				}
			})
		}
	}
	wg.Wait()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for k := range keys {
		id := store.ID{byte(k)}
		for d := range 2 {
			if got := s.days[day{id, store.DayOf(noon) + store.Day(d)}].Requests; got != clients*rounds/2 {
				t.Errorf("key %d, day %d: %d requests, want %d", k, d, got, clients*rounds/2)
			}
		}
		for n, want := range []int64{4 * rounds, 3 * rounds, 3 * rounds} {
			network := netip.MustParsePrefix(fmt.Sprintf("192.0.%d.0/24", n))
			if got := s.from[from{id, network}].Requests; got != want {
				t.Errorf("key %d: %d from %v, want %d", k, got, network, want)
			}
		}
	}
}

// TestMoreNetworksThanFitCountToTheDay, and a write is asked for.
func TestMoreNetworksThanFitCountToTheDay(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	defer func() { _ = r.Close(t.Context()) }()
	m := r.Mark(key)
	const requests = 10_000
	for i := range requests {
		m.Use(fmt.Sprintf("10.%d.%d.1", i/256, i%256), noon)
		m.Ask(fmt.Sprintf("a:a%d", i))
	}
	for s.at(key).IsZero() { // nobody flushes but the recorder itself
		time.Sleep(time.Millisecond)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.days[day{key, store.DayOf(noon)}].Requests; got != requests {
		t.Errorf("%d requests", got)
	}
	if n := len(s.from); n == 0 || n >= requests {
		t.Errorf("%d networks", n)
	}
}

func TestACountThatGoesOnAllocatesNothing(t *testing.T) {
	_, r := start(t, time.Hour)
	defer func() { _ = r.Close(t.Context()) }()
	m := r.Mark(key)
	use := func() {
		m.Use("192.0.2.1", noon)
		m.Use("192.0.2.9", noon) // the same place by the last character
		m.Ask("a:read")
	}
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTheMemoryOfManyKeysIsBounded has 100,000 keys used between two writes, each from as
// many networks as it likes. It is not parallel: it measures the heap of the process.
func TestTheMemoryOfManyKeysIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		clients int
		bound   int64 // MiB
	}{"from one address": {1, 64}, "from sixteen networks": {16, 128}} {
		t.Run(name, func(t *testing.T) {
			s, r := start(t, time.Hour)
			defer func() { _ = r.Close(t.Context()) }()
			s.setFail(errors.New("down")) // and so the marks keep what they have
			_ = r.Flush(t.Context())
			const keys = 100_000
			marks := make([]*usage.Mark, keys)
			for k := range marks {
				marks[k] = r.Mark(store.ID{byte(k), byte(k >> 8), byte(k >> 16)})
			}
			before := heap()
			for c := range test.clients {
				address, permission := fmt.Sprintf("10.0.%d.%d", c, c), fmt.Sprintf("a:a%d", c)
				for _, m := range marks {
					m.Use(address, noon)
					m.Ask(permission)
				}
			}
			taken := heap() - before
			t.Logf("%d MiB for %d keys", taken>>20, keys)
			if taken > test.bound<<20 {
				t.Errorf("%d MiB, want %d at most", taken>>20, test.bound)
			}
			runtime.KeepAlive(marks)
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	for range 3 { // finalizers, and what they let go
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
