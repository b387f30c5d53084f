package audit_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newWriter is one that writes only when it is told to.
func newWriter(t *testing.T, m *memory, capacity int) *audit.Writer {
	t.Helper()
	w := audit.Start(audit.Config{
		Log: m, Sealer: audit.NewSealer(secret), Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return noon }, Name: "here", Capacity: capacity, Interval: time.Hour,
	})
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

func TestNoRecordIsLostAtTheEnd(t *testing.T) {
	t.Parallel()
	m := newMemory()
	w := newWriter(t, m, 100_000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 5000 {
				w.Add(sample(i))
			}
		})
	}
	wg.Wait()
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(m.all()); n != 20_000 {
		t.Errorf("%d records were written", n)
	}
	if report := verify(t, m, secret); !report.OK(true) {
		t.Errorf("report = %+v", report)
	}
}

// TestWhatDoesNotFitIsCounted fills the queue while the store is down.
func TestWhatDoesNotFitIsCounted(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.set(errDown, nil)
	w := newWriter(t, m, 10)
	for i := range 25 {
		w.Add(sample(i))
	}
	if err := w.Flush(t.Context()); err == nil {
		t.Error("a store that is down took records")
	}
	m.set(nil, nil)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	records := m.all()
	if len(records) != 11 {
		t.Fatalf("%d records were written", len(records))
	}
	last := records[10]
	var details struct {
		Dropped     int64
		First, Last time.Time
	}
	if err := json.Unmarshal(last.Details, &details); err != nil {
		t.Fatal(err)
	}
	if last.Event != store.AuditGap || last.Actor.ID != "here" || details.Dropped != 15 ||
		!details.First.Equal(sample(10).At) || !details.Last.Equal(sample(24).At) {
		t.Errorf("the gap is %+v %s", last, last.Details)
	}
	if err := w.Flush(t.Context()); err != nil || len(m.all()) != 11 {
		t.Errorf("the gap is written twice: %d %v", len(m.all()), err)
	}
	if got, want := w.Stats(), (audit.Stats{Capacity: 10, Lost: 15}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

// TestALostAnswerWritesNothingTwice has the store write a batch and say that it
// did not.
func TestALostAnswerWritesNothingTwice(t *testing.T) {
	t.Parallel()
	m := newMemory()
	w := newWriter(t, m, 100)
	w.Add(sample(1))
	m.set(nil, errDown)
	if err := w.Flush(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	m.set(nil, nil)
	w.Add(sample(2))
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(m.all()); n != 2 {
		t.Errorf("%d records were written", n)
	}
}

func TestAFloodOfDenialsIsHeldBack(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.labels[store.ID{1}] = "was"
	w := newWriter(t, m, 100_000)
	deny := func(key store.ID, at time.Time) {
		w.Deny(store.AuditRecord{Event: store.AuditDenied, At: at, Key: store.AuditKey{ID: key}, Details: json.RawMessage(`{"reason":"revoked"}`)})
	}
	for range 1000 {
		deny(store.ID{1}, noon)
	}
	deny(store.ID{2}, noon)
	deny(store.ID{1}, noon.Add(time.Minute))
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	records := m.all()
	if len(records) != 22 {
		t.Fatalf("%d records", len(records))
	}
	if got := string(records[20].Details); got != `{"not_recorded_before":980,"reason":"revoked"}` {
		t.Errorf("details = %s", got)
	}
	if r := records[0]; r.Key.Label != "was" || r.Actor.Label != "was" {
		t.Errorf("the label of a key that is gone was not found: %+v", r)
	}
	if m.asked != 2 {
		t.Errorf("the store was asked for labels %d times", m.asked)
	}
	// Ids that were never there, each its own, are bounded together.
	for i := range 100_000 {
		deny(store.ID{3, byte(i), byte(i >> 8), byte(i >> 16)}, noon.Add(2*time.Minute))
	}
	if n := w.Stats().Waiting; n > 2000 {
		t.Errorf("%d records wait", n)
	}
	// None is unaccounted for in the end.
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var recorded, untold int64
	for _, r := range m.all() {
		var details struct {
			Dropped int64
			Before  int64 `json:"not_recorded_before"`
		}
		if err := json.Unmarshal(r.Details, &details); err != nil {
			t.Fatal(err)
		}
		if untold += details.Dropped + details.Before; r.Event == store.AuditDenied {
			recorded++
		}
	}
	if recorded+untold != 101_002 {
		t.Errorf("%d denials are recorded and %d counted, of 101,002", recorded, untold)
	}
}

func TestManyRecordsAreWrittenWithoutWaitingForTheInterval(t *testing.T) {
	t.Parallel()
	m := newMemory()
	w := newWriter(t, m, 100_000)
	for i := range 10_000 {
		w.Add(sample(i))
	}
	deadline := time.Now().Add(20 * time.Second)
	for w.Stats().Waiting >= 5000 {
		if time.Now().After(deadline) {
			t.Fatal("nothing is written")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRecordsAreWrittenKeyByKey has the records of two keys come in turns, some of which
// were made before those that came first.
func TestRecordsAreWrittenKeyByKey(t *testing.T) {
	t.Parallel()
	m := newMemory()
	w := newWriter(t, m, 100)
	for _, i := range []int{2, 1, 4, 3, 0, 5} {
		r := sample(i)
		r.Key.ID = store.ID{byte(i % 2)}
		w.Add(r)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []time.Duration
	for _, r := range m.all() {
		got = append(got, r.At.Sub(noon)/time.Second)
	}
	if !slices.Equal(got, []time.Duration{0, 2, 4, 1, 3, 5}) {
		t.Errorf("written are %d", got)
	}
	if report := verify(t, m, secret); !report.OK(true) {
		t.Errorf("report = %+v", report)
	}
}
