package usage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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
	first, second := usage.NewMark(store.ID{1}), usage.NewMark(store.ID{2})
	want("at first", 0, time.Time{})
	r.Touch(first, noon)
	r.Touch(first, noon.Add(time.Second))
	r.Touch(second, noon.Add(2*time.Second))
	want("two keys were used", 2, noon)

	s.setFail(errors.New("down"))
	if err := r.Flush(t.Context()); err == nil {
		t.Fatal("the store is down")
	}
	want("the store is down", 2, noon)
	r.Touch(usage.NewMark(store.ID{3}), noon.Add(time.Minute))
	want("a third was used meanwhile", 3, noon)
	_ = r.Flush(t.Context())
	want("it is down still", 3, noon)

	s.setFail(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("all was written", 0, time.Time{})
	r.Touch(first, noon.Add(time.Hour))
	want("used again", 1, noon.Add(time.Hour))
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("at the end", 0, time.Time{})
}
