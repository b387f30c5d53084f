package store_test

import (
	"errors"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestWhatOfAViewIsTheHistoryThatIsFollowed(t *testing.T) {
	t.Parallel()
	first, second := store.Position{Rev: 1, Tag: 5}, store.Position{Rev: 2, Tag: 7}
	for name, c := range map[string]struct {
		view    store.View
		renewed bool
		want    bool
	}{
		"a pull that goes on":                       {store.View{InLog: true}, false, true},
		"a renewal that goes on":                    {store.View{InLog: true, Member: true}, true, true},
		"a renewal on another history":              {store.View{Member: true}, true, true},
		"a pull on another history":                 {store.View{Member: true}, false, false},
		"a renewal that wrote nothing, on another":  {store.View{}, true, false},
		"a renewal that wrote nothing, and goes on": {store.View{InLog: true}, true, true},
		"a standby": {store.View{InLog: true, Member: true, Standby: true}, true, false},
	} {
		var seen store.Seen
		seen.Note(&store.View{InLog: true, Origin: "a", Head: first}, false)
		c.view.Origin, c.view.Head = "b", second
		seen.Note(&c.view, c.renewed)
		origin, place := seen.History()
		if got := origin == "b" && place == second; got != c.want || !got && (origin != "a" || place != first) {
			t.Errorf("%s: now it is %s, %+v", name, origin, place)
		}
	}
}

func TestACommitIsComparedWithUntilAFeedSaysMore(t *testing.T) {
	t.Parallel()
	var seen store.Seen
	seen.Committed("a")
	seen.Committed("b")
	if origin, place := seen.History(); origin != "a" || place != (store.Position{}) {
		t.Errorf("after two commits it is %s, %+v", origin, place)
	}
	seen.Note(&store.View{InLog: true, Origin: "b", Head: store.Position{Rev: 1}}, false)
	seen.Committed("a")
	if origin, place := seen.History(); origin != "b" || place.Rev != 1 {
		t.Errorf("after a view it is %s, %+v", origin, place)
	}
}

func TestConnectionsAreRenewedOnceForManyCalls(t *testing.T) {
	t.Parallel()
	var seen store.Seen
	calls, renewals := 0, 0
	for range 100 {
		err := seen.Believe(func() { renewals++ }, func() error {
			calls++
			return store.ErrOtherHistory
		})
		if !errors.Is(err, store.ErrOtherHistory) {
			t.Fatal(err)
		}
	}
	if calls != 200 || renewals > 2 { // two if it took a second
		t.Errorf("%d calls, %d renewals", calls, renewals)
	}
	refused := errors.New("another error")
	if err := seen.Believe(nil, func() error { calls++; return refused }); !errors.Is(err, refused) || calls != 201 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
