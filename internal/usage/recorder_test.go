package usage_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink keeps the newest use of each key and adds up the rest, and can be failed.
type sink struct {
	mu      sync.Mutex
	batches int
	uses    map[store.ID]time.Time
	first   map[store.ID]time.Time
	days    map[day]store.DayUse
	from    map[from]store.NetworkUse
	asked   map[question]time.Time
	fail    error
}

type (
	day struct {
		id  store.ID
		day store.Day
	}
	from struct {
		id      store.ID
		network netip.Prefix
	}
	question struct {
		id         store.ID
		permission string
	}
)

func (s *sink) RecordUse(_ context.Context, uses []store.Use) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	if s.fail != nil {
		return s.fail
	}
	for i, u := range uses {
		if i > 0 && string(uses[i-1].ID[:]) >= string(u.ID[:]) {
			return errors.New("not in the order of the ids")
		}
		if u.At.After(s.uses[u.ID]) {
			s.uses[u.ID] = u.At
		}
		if first, there := s.first[u.ID]; !u.First.IsZero() && (!there || u.First.Before(first)) {
			s.first[u.ID] = u.First
		}
		for _, d := range u.Days {
			sum := s.days[day{u.ID, d.Day}]
			s.days[day{u.ID, d.Day}] = store.DayUse{Day: d.Day, Requests: sum.Requests + d.Requests, Denied: sum.Denied + d.Denied}
		}
		for _, n := range u.Networks {
			n.Requests += s.from[from{u.ID, n.Network}].Requests
			s.from[from{u.ID, n.Network}] = n
		}
		for _, a := range u.Asked {
			s.asked[question{u.ID, a.Permission}] = a.LastAt
		}
	}
	return nil
}

func (s *sink) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *sink) at(id store.ID) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses[id]
}

func newSink() *sink {
	return &sink{
		uses: make(map[store.ID]time.Time), first: make(map[store.ID]time.Time), days: make(map[day]store.DayUse),
		from: make(map[from]store.NetworkUse), asked: make(map[question]time.Time),
	}
}

func start(t *testing.T, interval time.Duration) (*sink, *usage.Recorder) {
	t.Helper()
	s := newSink()
	return s, usage.Start(s, interval, slog.New(slog.DiscardHandler), nil)
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestASingleUseIsWrittenAtTheEnd(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	id := store.ID{1}
	r.Mark(id).Use("", noon)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.at(id).Equal(noon) {
		t.Errorf("last use is %v", s.at(id))
	}
}

// TestAReportThatFailsIsToldAndHoldsUpNoWrite: the first use of a successor is written at once,
// whether reports succeed or not, and a report that has failed is made again.
func TestAReportThatFailsIsToldAndHoldsUpNoWrite(t *testing.T) {
	t.Parallel()
	var log lines
	s := newSink()
	var fails atomic.Bool
	fails.Store(true)
	var reports atomic.Int64
	r := usage.Start(s, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), func(context.Context) error {
		reports.Add(1)
		if fails.Load() {
			return errors.New("down")
		}
		return nil
	})
	for n := range byte(3) {
		mark := r.Mark(store.ID{n})
		mark.Hurry()
		mark.Use("", noon)
		for began := time.Now(); !s.at(store.ID{n}).Equal(noon) || reports.Load() <= int64(n); time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("use %d is not written and reported", n)
			}
		}
	}
	log.wait(t, "new networks of keys are not reported, last uses are written")
	if n := strings.Count(log.String(), "level="); n != 1 {
		t.Errorf("the log is\n%s", log.String())
	}
	fails.Store(false)
	before := reports.Load()
	if err := r.Close(t.Context()); err != nil || reports.Load() != before+1 {
		t.Errorf("Close = %v after %d reports, want one more than %d", err, reports.Load(), before)
	}
}

// TestTheLogTellsAWriteThatFails, and that it is made again.
func TestTheLogTellsAWriteThatFails(t *testing.T) {
	t.Parallel()
	var log lines
	s := newSink()
	s.setFail(errors.New("down"))
	r := usage.Start(s, time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)), nil)
	r.Mark(store.ID{1}).Use("", noon)
	log.wait(t, "last uses of keys are not written, they wait in memory")
	s.setFail(nil)
	log.wait(t, "last uses of keys are written again")
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// lines is a log that a test waits for.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(l.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there is no %q in the log\n%s", text, l.String())
		}
	}
}

func TestUsesAreWrittenEveryInterval(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Millisecond)
	defer func() { _ = r.Close(t.Context()) }()
	id := store.ID{1}
	mark := r.Mark(id)
	for i := range 3 {
		at := noon.Add(time.Duration(i) * time.Second)
		mark.Use("", at)
		for !s.at(id).Equal(at) {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func TestTheNewestUseWinsWhateverTheOrder(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	id := store.ID{1}
	first, second := r.Mark(id), r.Mark(id) // a slot that was evicted and came back
	first.Use("", noon.Add(time.Minute))
	first.Use("", noon)
	second.Use("", noon.Add(time.Second))
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := noon.Add(time.Minute); !s.at(id).Equal(want) {
		t.Errorf("last use is %v, want %v", s.at(id), want)
	}
}

func TestWhatTheStoreDidNotTakeIsTriedAgain(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	id, other := store.ID{1}, store.ID{2}
	down := errors.New("connection refused")
	s.setFail(down)
	r.Mark(id).Use("", noon)
	if err := r.Flush(t.Context()); !errors.Is(err, down) {
		t.Fatalf("got %v", err)
	}
	s.setFail(nil)
	r.Mark(other).Use("", noon.Add(time.Second))
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.at(id).Equal(noon) || !s.at(other).Equal(noon.Add(time.Second)) {
		t.Errorf("last uses are %v and %v", s.at(id), s.at(other))
	}
}

func TestNothingIsWrittenWhenNothingWasUsed(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.batches != 0 {
		t.Errorf("%d batches", s.batches)
	}
}

func TestAUseIsWrittenOnce(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	r.Mark(store.ID{1}).Use("", noon)
	for range 3 {
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.batches != 1 {
		t.Errorf("%d batches, want 1", s.batches)
	}
}

// TestNoUseIsLost touches from many goroutines while the recorder flushes.
func TestNoUseIsLost(t *testing.T) {
	t.Parallel()
	s, r := start(t, 100*time.Microsecond)
	const keys, touches = 10, 500
	var wg sync.WaitGroup
	for k := range keys {
		mark := r.Mark(store.ID{byte(k)})
		for g := range 2 {
			wg.Go(func() {
				for i := range touches {
					mark.Use("", noon.Add(time.Duration(2*i+g)*time.Microsecond))
				}
			})
		}
	}
	wg.Wait()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := noon.Add((2*(touches-1) + 1) * time.Microsecond)
	for k := range keys {
		if got := s.at(store.ID{byte(k)}); !got.Equal(want) {
			t.Errorf("key %d: last use is %v, want %v", k, got, want)
		}
	}
}

// TestTheOldestUnwrittenUse follows it through a store that is down for a while.
func TestTheOldestUnwrittenUse(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	want := func(when string, waiting int, oldest time.Time) {
		t.Helper()
		if diff := cmp.Diff(usage.Stats{Waiting: waiting, Oldest: oldest}, r.Stats()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	first, second := r.Mark(store.ID{1}), r.Mark(store.ID{2})
	want("at first", 0, time.Time{})
	first.Use("", noon)
	first.Use("", noon.Add(time.Second))
	second.Use("", noon.Add(2*time.Second))
	want("two keys were used", 2, noon)

	s.setFail(errors.New("down"))
	if err := r.Flush(t.Context()); err == nil {
		t.Fatal("the store is down")
	}
	want("the store is down", 2, noon)
	r.Mark(store.ID{3}).Use("", noon.Add(time.Minute))
	want("a third was used meanwhile", 3, noon)
	_ = r.Flush(t.Context())
	want("it is down still", 3, noon)

	s.setFail(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("all was written", 0, time.Time{})
	first.Use("", noon.Add(time.Hour))
	want("used again", 1, noon.Add(time.Hour))
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("at the end", 0, time.Time{})
}

// TestAHurriedUseIsWrittenAtOnce, and the uses after it wait for the interval.
func TestAHurriedUseIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	s, r := start(t, time.Hour)
	mark := r.Mark(store.ID{1})
	mark.Hurry()
	mark.Use("192.0.2.1", noon)
	for began := time.Now(); !s.at(store.ID{1}).Equal(noon); time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("the use is not written")
		}
	}
	mark.Use("192.0.2.1", noon.Add(time.Second))
	if n := r.Stats().Waiting; n != 1 {
		t.Errorf("%d keys wait, want one", n)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
