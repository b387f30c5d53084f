package verify

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// sizes are keys as people have them, and the largest that there can be in a usual list.
var sizes = map[string]store.Key{
	"a short label and no permission":           {Label: "bot"},
	"a usual label and two permissions":         {Label: "Twitch Bot Key", Permissions: []string{"bots:read", "chat:write"}},
	"a label of 100 characters, 30 permissions": {Label: longLabel, Permissions: manyPermissions},
}

const longLabel = "ÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖÜäöüßÄÖ"

var manyPermissions = func() (all []string) {
	for i := range 30 {
		all = append(all, fmt.Sprintf("resource-%02d:write", i))
	}
	return all
}()

// fill remembers n keys as a lookup does: in L1, with a last-use mark and a proof. Each has
// texts of its own, as rows that were read have.
func fill(cache *l1, proofs *localProofs, n int, key store.Key) {
	for i := range n {
		row := key
		binary.BigEndian.PutUint64(row.ID[8:], uint64(i))
		row.Label = strings.Clone(key.Label)
		row.Permissions = nil
		for _, p := range key.Permissions {
			row.Permissions = append(row.Permissions, strings.Clone(p))
		}
		e := newEntry([32]byte{byte(i)}, &row, time.Time{})
		cache.put(cache.generation(row.ID), e)
		proofs.keep(row.ID, [32]byte{byte(i)}, e.digest)
	}
}

// perKey measures what n keys take on the heap, and what the bound counts for them.
func perKey(n int, key store.Key) (taken, counted float64) {
	before := heap()
	cache, proofs := newL1(n, 1<<40, nil), newLocalProofs(n)
	fill(cache, proofs, n, key)
	taken = float64(heap()-before) / float64(n)
	counted = float64(cache.bytes) / float64(n)
	runtime.KeepAlive(proofs)
	return taken, counted
}

func heap() int64 {
	var m runtime.MemStats
	for range 3 { // finalizers, and what they let go
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkKeyMemory is what a key in memory takes, and what key_memory counts for it.
// docs/operations/capacity.md has the figures.
//
//	go test ./internal/verify -run '^$' -bench KeyMemory -benchtime 1x
func BenchmarkKeyMemory(b *testing.B) {
	for name, key := range sizes {
		b.Run(name, func(b *testing.B) {
			var taken, counted float64
			for b.Loop() {
				taken, counted = perKey(100_000, key)
			}
			b.ReportMetric(taken, "taken-B/key")
			b.ReportMetric(counted, "counted-B/key")
		})
	}
}

// TestKeyMemoryCountsWhatAKeyTakes is not parallel: it measures the heap of the process. The
// maps grow by doubling, so a key takes most just after that.
func TestKeyMemoryCountsWhatAKeyTakes(t *testing.T) {
	for name, key := range sizes {
		for _, n := range []int{5_000, 15_000} {
			taken, counted := perKey(n, key)
			t.Logf("%s, %d keys: %.0f bytes a key, %.0f are counted", name, n, taken, counted)
			if taken > counted {
				t.Errorf("%s, %d keys: a key takes %.0f bytes, and %.0f are counted", name, n, taken, counted)
			}
			if counted > 2*taken {
				t.Errorf("%s, %d keys: a key takes %.0f bytes only, and %.0f are counted", name, n, taken, counted)
			}
		}
	}
}

// TestKeyMemoryBoundsProofsToo fills more than fits into a small memory, and then one that
// has few entries.
func TestKeyMemoryBoundsProofsToo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entries int
		bytes   int64
	}{{100_000, 64 << 10}, {20, 1 << 30}, {1, 1}} {
		config := Config{MaxEntries: c.entries, MaxBytes: c.bytes}
		cache, proofs := newL1(config.MaxEntries, config.MaxBytes, nil), newLocalProofs(config.mostKeys())
		fill(cache, proofs, 1000, sizes["a usual label and two permissions"])
		most := max(1, min(c.entries, int(c.bytes/entryOverhead)))
		if cache.len() > most || proofs.proofs.Len() > most || cache.len() == 0 || proofs.proofs.Len() == 0 {
			t.Errorf("%d entries, %d bytes: %d keys and %d proofs", c.entries, c.bytes, cache.len(), proofs.proofs.Len())
		}
		if cache.bytes > c.bytes && cache.len() > 1 {
			t.Errorf("%d keys take %d bytes of %d", cache.len(), cache.bytes, c.bytes)
		}
	}
}
