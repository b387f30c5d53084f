package verify

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// entry says: the key with this digest exists, and is this identity. It is
// immutable.
type entry struct {
	digest   [32]byte
	identity *Identity
	claim    *coherence.Claim
	until    time.Time // carries a monotonic reading; see store.Key for expiry
	epoch    uint64    // of l1, from before the row was read
	size     int64     // bytes, roughly
}

// entryOverhead is what an entry takes beside its texts, in bytes: the structs,
// the boxed values, the map's bucket and the queue's element.
const entryOverhead = 640

func newEntry(digest [32]byte, row *store.Key, until time.Time) *entry {
	identity := IdentityOf(row)
	size := int64(entryOverhead + 4*len(identity.Label))
	for _, p := range identity.Permissions {
		size += int64(2*len(p) + 16)
	}
	return &entry{digest: digest, identity: identity, claim: coherence.ClaimOf(row), until: until, size: size}
}

// slot is the place of one key in L1. It stays when its entry runs out and is
// filled again, so that the key's mark of last use stays too.
type slot struct {
	id      store.ID
	entry   atomic.Pointer[entry]
	mark    *usage.Mark
	visited atomic.Bool

	// guarded by l1.mu
	element *list.Element
	size    int64
	dead    bool
}

// l1 maps ids to entries. Readers take no lock and write at most one bit.
// Beyond its bounds it evicts by SIEVE (Zhang et al., NSDI 2024): a queue in
// order of insertion, and a hand that walks it and takes the first slot not
// visited since it last came by. Unlike LRU a hit moves nothing, so it needs
// no lock.
//
// It is keyed by the key's public id: no lookup depends on a secret. The digest
// of the whole key is compared by the caller in constant time.
type l1 struct {
	slots      *xsync.Map[store.ID, *slot]
	maxEntries int
	maxBytes   int64

	// generations count what was forgotten, by stripe of ids. A fill stores
	// only if its generation is still what it was before the row was read.
	// Sharing a stripe costs a needless second read and nothing else, and no
	// eviction can ever lose a count.
	generations [1024]atomic.Uint64
	// epoch counts how often everything was forgotten. An entry of another one
	// does not count.
	epoch atomic.Uint64

	mu    sync.Mutex
	queue *list.List // newest in front
	hand  *list.Element
	bytes int64
}

func newL1(maxEntries int, maxBytes int64) *l1 {
	return &l1{
		slots:      xsync.NewMap[store.ID, *slot](),
		maxEntries: maxEntries,
		maxBytes:   maxBytes,
		queue:      list.New(),
	}
}

// get returns the slot and its entry, or nil. It does not look at the time.
func (c *l1) get(id store.ID) (*slot, *entry) {
	s, ok := c.slots.Load(id)
	if !ok {
		return nil, nil
	}
	e := s.entry.Load()
	if e == nil || e.epoch != c.epoch.Load() {
		return s, nil
	}
	if !s.visited.Load() {
		s.visited.Store(true)
	}
	return s, e
}

// holds reports whether the entry is still what the slot holds.
func (c *l1) holds(s *slot, e *entry) bool {
	return s.entry.Load() == e && e.epoch == c.epoch.Load()
}

// generation is what was forgotten so far, of a stripe and of everything.
type generation struct{ stripe, epoch uint64 }

// generation is to be read before the row is.
func (c *l1) generation(id store.ID) generation {
	return generation{c.stripe(id).Load(), c.epoch.Load()}
}

// stripe spreads by the last bytes of a UUIDv7, which are random.
func (c *l1) stripe(id store.ID) *atomic.Uint64 {
	return &c.generations[(uint(id[14])<<8|uint(id[15]))%uint(len(c.generations))]
}

// put stores the entry if nothing was forgotten under its stripe since the
// generation was read, and reports whether it did. The test and the store are
// one step with respect to [l1.forget]: both run under the map's lock of the id.
func (c *l1) put(g generation, e *entry) bool {
	id := e.identity.ID
	e.epoch = g.epoch
	stored := false
	s, _ := c.slots.Compute(id, func(s *slot, loaded bool) (*slot, xsync.ComputeOp) {
		if c.stripe(id).Load() != g.stripe {
			return s, xsync.CancelOp
		}
		stored = true
		if loaded {
			s.entry.Store(e)
			return s, xsync.CancelOp
		}
		s = &slot{id: id, mark: usage.NewMark(id)}
		s.entry.Store(e)
		return s, xsync.UpdateOp
	})
	if stored {
		c.account(s, e.size)
	}
	return stored
}

// mark returns the key's mark of last use, and makes a slot without an entry if
// there is none.
func (c *l1) mark(id store.ID) *usage.Mark {
	s, loaded := c.slots.LoadOrCompute(id, func() (*slot, bool) {
		return &slot{id: id, mark: usage.NewMark(id)}, false
	})
	if !loaded {
		c.account(s, entryOverhead)
	}
	return s.mark
}

// forget drops the entry and voids every fill of it that is under way.
func (c *l1) forget(id store.ID) {
	var dropped *slot
	c.slots.Compute(id, func(s *slot, loaded bool) (*slot, xsync.ComputeOp) {
		c.stripe(id).Add(1)
		if !loaded {
			return nil, xsync.CancelOp
		}
		s.entry.Store(nil)
		dropped = s
		return nil, xsync.DeleteOp
	})
	if dropped != nil {
		c.mu.Lock()
		c.unlink(dropped)
		c.mu.Unlock()
	}
}

// forgetAll makes every entry void, and every fill that is under way.
func (c *l1) forgetAll() { c.epoch.Add(1) }

// len is the number of slots.
func (c *l1) len() int { return c.slots.Size() }

func (c *l1) account(s *slot, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.dead {
		return
	}
	if s.element == nil {
		s.element = c.queue.PushFront(s)
	}
	c.bytes += size - s.size
	s.size = size
	for c.queue.Len() > c.maxEntries || c.bytes > c.maxBytes {
		victim := c.sieve(s)
		if victim == nil {
			return
		}
		c.unlink(victim)
		c.slots.Compute(victim.id, func(current *slot, loaded bool) (*slot, xsync.ComputeOp) {
			if !loaded || current != victim {
				return current, xsync.CancelOp
			}
			// A request that has the slot in hands must find it empty: nobody could
			// tell it of a revocation any more.
			current.entry.Store(nil)
			return nil, xsync.DeleteOp
		})
	}
}

// sieve picks the slot to evict, never the one that was just put.
func (c *l1) sieve(keep *slot) *slot {
	at := c.hand
	for range 2*c.queue.Len() + 1 {
		if at == nil {
			at = c.queue.Back()
		}
		s := at.Value.(*slot)
		if s != keep && !s.visited.Swap(false) {
			c.hand = at.Prev()
			return s
		}
		at = at.Prev()
	}
	return nil
}

func (c *l1) unlink(s *slot) {
	s.dead = true
	if s.element == nil {
		return
	}
	if c.hand == s.element {
		c.hand = s.element.Prev()
	}
	c.queue.Remove(s.element)
	c.bytes -= s.size
	s.element, s.size = nil, 0
}

// Bounds of the memory of ids that have no row.
const (
	negativesSize = 16384
	negativesTTL  = 2 * time.Second
)

// negativeCache remembers for a moment why a minted key cannot be good: its row is not
// there, or its time is over. So a client that keeps sending a revoked key does
// not keep asking the store. It is bounded apart from the good keys and cannot
// push them out.
type negativeCache struct {
	verdicts *lru.Cache[store.ID, verdict]
}

type verdict struct {
	reason Reason
	until  time.Time
}

func newNegativeCache() *negativeCache {
	return &negativeCache{lru.New[store.ID, verdict](negativesSize)}
}

func (a *negativeCache) why(id store.ID, now time.Time) (Reason, bool) {
	v, ok := a.verdicts.Get(id)
	return v.reason, ok && now.Before(v.until)
}

func (a *negativeCache) add(id store.ID, reason Reason, now time.Time) {
	a.verdicts.Add(id, verdict{reason, now.Add(negativesTTL)})
}

func (a *negativeCache) forget(id store.ID) { a.verdicts.Remove(id) }

func (a *negativeCache) forgetAll() { a.verdicts.Purge() }
