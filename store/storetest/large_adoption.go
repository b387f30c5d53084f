package storetest

import (
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// LargeAdoption checks that the rows of a large list, which are all foreign, are
// counted up to a bound.
func LargeAdoption(t *testing.T, s store.Store) {
	for limit, want := range map[int]int{1: 1, 1000: 1000, store.MaxUnadopted + 1: store.MaxUnadopted} {
		keys, total, err := s.Unadopted(t.Context(), [][32]byte{firstEra}, LargeEpoch, limit)
		must(t, err)
		if len(keys) != want || total != store.MaxUnadopted {
			t.Errorf("limit %d: %d of %d candidates, want %d of %d", limit, len(keys), total, want, store.MaxUnadopted)
		}
		for _, i := range []int{0, len(keys) - 1} {
			if at := read(t, s, keys[i].ID).CreatedAt; !at.Equal(LargeEpoch.Add(time.Duration(i) * time.Second)) {
				t.Errorf("candidate %d is from %v", i, at)
			}
		}
	}
}
