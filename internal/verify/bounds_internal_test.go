package verify

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestWhatIsRememberedOfBadKeysIsBounded adds more than there is room for, and
// waits for longer than a verdict is good.
func TestWhatIsRememberedOfBadKeysIsBounded(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	g, k := newNegativeCache(), newLocalProofs(16)
	for i := range uint64(3 * negativesSize) {
		var id store.ID
		var digest [32]byte
		binary.BigEndian.PutUint64(id[:], i)
		binary.BigEndian.PutUint64(digest[:], i)
		g.add(id, ReasonRevoked, at)
		k.refute([32]byte{1}, digest)
		k.keep(id, [32]byte{1}, digest)
	}
	if n := g.verdicts.Len(); n != negativesSize {
		t.Errorf("%d verdicts are remembered, not %d", n, negativesSize)
	}
	if n := k.refuted.Len(); n != maxRefuted {
		t.Errorf("%d wrong digests are remembered, not %d", n, maxRefuted)
	}
	if n := k.proofs.Len(); n != 16 {
		t.Errorf("%d facts are remembered, not 16", n)
	}
	id := store.ID{0xff}
	g.add(id, ReasonRevoked, at)
	if _, ok := g.reason(id, at.Add(negativesTTL-1)); !ok {
		t.Error("a verdict is forgotten before its time")
	}
	if _, ok := g.reason(id, at.Add(negativesTTL)); ok {
		t.Error("a verdict outlives its time")
	}
}
