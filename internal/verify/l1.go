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

// entry says that the key with this digest exists and has this identity. It is immutable, but
// for what its fence remembers.
type entry struct {
	digest   [32]byte
	identity *Identity
	fence    *fence // nil for a key without networks
	claim    *coherence.Claim
	until    time.Time // how long the entry is believed; not the expiry of the key
	epoch    uint64    // of l1, from before the row was read
	begins   bool      // the first use of the key, which ends the key that it replaces, is to come
	size     int64     // bytes, roughly
}

// What an entry takes beside its texts, in bytes: the structs, the map's
// bucket, the queue's element and the local proof; and for each permission, the places in two
// slices and the rounding up of small texts. Both are measured: see BenchmarkKeyMemory.
const (
	entryOverhead      = 900
	permissionOverhead = 72
)

func newEntry(digest [32]byte, row *store.Key, until time.Time) *entry {
	identity := IdentityOf(row)
	size := int64(entryOverhead + 4*len(identity.Label))
	for _, p := range identity.Permissions {
		size += int64(2*len(p) + permissionOverhead)
	}
	fence := newFence(row.Networks)
	if fence != nil {
		size += int64(fenceSize + networkSize*len(row.Networks))
	}
	return &entry{digest: digest, identity: identity, fence: fence, claim: coherence.ClaimOf(row), until: until, size: size, begins: begins(row)}
}

// begins reports whether the first use of a successor is still to come.
func begins(row *store.Key) bool { return row.Replaces != (store.ID{}) && row.LastUsedAt.IsZero() }

// slot is the place of one key in L1. When its entry runs out the slot stays, and is filled
// again. So what was counted of the key stays too.
type slot struct {
	id      store.ID
	entry   atomic.Pointer[entry]
	uses    *usage.Mark
	visited atomic.Bool // since the hand last came by

	// These fields are guarded by l1.mu.
	element *list.Element
	size    int64
	dead    bool // the slot is not in the map any more
}

// visit keeps the slot from the next eviction. Only a request with the right key does so: the
// id is public, and other strings must not choose what is evicted.
func (s *slot) visit() {
	if !s.visited.Load() {
		s.visited.Store(true)
	}
}

// l1 maps ids to entries. Readers take no lock and write at most one bit. If l1 is full, it
// evicts by SIEVE (Zhang et al., NSDI 2024): the slots are in a queue in order of insertion.
// A hand walks through the queue, and takes the first slot that was not visited since the
// hand last came by. Unlike in an LRU cache a hit moves nothing, so a hit needs no lock.
//
// The map's key is the public id, so no lookup depends on a secret. The caller compares the
// digest of the whole key in constant time.
type l1 struct {
	slots      *xsync.Map[store.ID, *slot]
	maxEntries int
	maxBytes   int64
	recorder   *usage.Recorder // makes the marks of the slots; nil for marks that count nothing

	// generations count how often a key was forgotten, by stripe of ids. A fill stores its
	// entry only if the count is still the same as before the row was read. Two ids that
	// share a stripe cost a needless second read and nothing else. No eviction can lose a
	// count.
	generations [1024]atomic.Uint64
	// epoch counts how often everything was forgotten. An entry from another epoch is void.
	epoch atomic.Uint64

	mu    sync.Mutex // guards the queue, and the size of every slot
	queue *list.List // newest in front
	hand  *list.Element
	bytes int64 // the sum of the sizes
}

func newL1(maxEntries int, maxBytes int64, recorder *usage.Recorder) *l1 {
	return &l1{
		recorder:   recorder,
		slots:      xsync.NewMap[store.ID, *slot](),
		maxEntries: maxEntries,
		maxBytes:   maxBytes,
		queue:      list.New(),
	}
}

// get returns the slot and its entry, or nil for what is not there. It does not check until
// when the entry is believed.
func (c *l1) get(id store.ID) (*slot, *entry) {
	s, ok := c.slots.Load(id)
	if !ok {
		return nil, nil
	}
	e := s.entry.Load()
	if e == nil || e.epoch != c.epoch.Load() {
		return s, nil
	}
	return s, e
}

// current reports whether the entry is still in its slot, and nothing was forgotten.
func (c *l1) current(s *slot, e *entry) bool {
	return s.entry.Load() == e && e.epoch == c.epoch.Load()
}

// generation counts how often a stripe, and everything, was forgotten.
type generation struct{ stripe, epoch uint64 }

// generation must be read before the row.
func (c *l1) generation(id store.ID) generation {
	return generation{c.stripe(id).Load(), c.epoch.Load()}
}

// stripe chooses by the last bytes of the id, which are random in a UUIDv7.
func (c *l1) stripe(id store.ID) *atomic.Uint64 {
	return &c.generations[(uint(id[14])<<8|uint(id[15]))%uint(len(c.generations))]
}

// put stores the entry if its stripe was not forgotten since the generation was read, and
// reports whether it did. [l1.forget] cannot come between the check and the store, because
// both run under the map's lock for the id.
func (c *l1) put(g generation, e *entry) bool {
	id := e.identity.ID
	e.epoch = g.epoch
	stored := false
	s, _ := c.slots.Compute(id, func(s *slot, loaded bool) (*slot, xsync.ComputeOp) {
		if c.stripe(id).Load() != g.stripe {
			return s, xsync.CancelOp
		}
		stored = true
		op := xsync.CancelOp
		if !loaded {
			s, op = c.newSlot(id), xsync.UpdateOp
		}
		e.identity.uses = s.uses
		if e.begins {
			s.uses.Hurry()
		}
		s.entry.Store(e)
		return s, op
	})
	if stored {
		c.setSize(s, e.size)
	}
	return stored
}

// mark returns the key's mark. If the key has no slot, mark makes a slot without an entry.
func (c *l1) mark(id store.ID) *usage.Mark {
	s, loaded := c.slots.LoadOrCompute(id, func() (*slot, bool) { return c.newSlot(id), false })
	if !loaded {
		c.setSize(s, entryOverhead)
	}
	return s.uses
}

func (c *l1) newSlot(id store.ID) *slot { return &slot{id: id, uses: c.recorder.Mark(id)} }

// forget drops the entry, and voids every fill of it that is under way.
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

// setSize notes the size of a slot, and evicts others while l1 is beyond its bounds. It puts
// a new slot into the queue.
func (c *l1) setSize(s *slot, size int64) {
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
		victim := c.victim(s)
		if victim == nil {
			return
		}
		c.unlink(victim)
		c.slots.Compute(victim.id, func(current *slot, loaded bool) (*slot, xsync.ComputeOp) {
			if !loaded || current != victim {
				return current, xsync.CancelOp
			}
			// A request may have found the slot before. It must find the slot empty now,
			// since a revocation could not reach that slot any more.
			current.entry.Store(nil)
			return nil, xsync.DeleteOp
		})
	}
}

// victim picks the slot to evict, but never keep, the slot that was just put. It returns nil
// if there is no other slot.
func (c *l1) victim(keep *slot) *slot {
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

// unlink takes a slot out of the queue. The caller holds the lock.
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

// Bounds of the negative cache.
const (
	negativesSize = 16384
	negativesTTL  = 2 * time.Second
)

// negativeCache remembers for a moment why a minted key is not good: its row is gone, or the
// key has expired. So a client that keeps sending a revoked key does not make the verifier
// ask the store each time. The cache is bounded apart from the good keys, and cannot push
// them out.
type negativeCache struct {
	verdicts *lru.Cache[store.ID, verdict]
}

// verdict is why a key is refused, and until when.
type verdict struct {
	reason Reason
	until  time.Time
}

func newNegativeCache() *negativeCache {
	return &negativeCache{lru.New[store.ID, verdict](negativesSize)}
}

// reason returns why the key is refused without a look at the store, if it is.
func (c *negativeCache) reason(id store.ID, now time.Time) (Reason, bool) {
	v, ok := c.verdicts.Get(id)
	return v.reason, ok && now.Before(v.until)
}

func (c *negativeCache) add(id store.ID, reason Reason, now time.Time) {
	c.verdicts.Add(id, verdict{reason, now.Add(negativesTTL)})
}

func (c *negativeCache) forget(id store.ID) { c.verdicts.Remove(id) }

func (c *negativeCache) forgetAll() { c.verdicts.Purge() }
