package verify

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of the memory of ids that have no row.
const (
	goneSize = 16384
	goneTTL  = 2 * time.Second
)

// gone remembers for a moment why a minted key cannot be good: its row is not
// there, or its time is over. So a client that keeps sending a revoked key does
// not keep asking the store. It is bounded apart from the good keys and cannot
// push them out.
type gone struct {
	verdicts *lru.Cache[store.ID, verdict]
}

type verdict struct {
	reason Reason
	until  time.Time
}

func newGone() *gone {
	verdicts, err := lru.New[store.ID, verdict](goneSize)
	if err != nil { // the size is a positive constant
		panic(err)
	}
	return &gone{verdicts}
}

func (g *gone) why(id store.ID, now time.Time) (Reason, bool) {
	v, ok := g.verdicts.Get(id)
	return v.reason, ok && now.Before(v.until)
}

func (g *gone) add(id store.ID, reason Reason, now time.Time) {
	g.verdicts.Add(id, verdict{reason, now.Add(goneTTL)})
}

func (g *gone) forget(id store.ID) { g.verdicts.Remove(id) }

func (g *gone) forgetAll() { g.verdicts.Purge() }
