package coherence

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Cutter ends a request. Cut reports whether it was this call that did, and
// does not wait for the request to end. See internal/cut.
type Cutter interface {
	Cut(cause error) bool
}

// Flight is a request's place in [Flights]. It is a part of the request, so
// that entering allocates nothing, and is used once.
type Flight struct {
	// Request is what is cut.
	Request Cutter

	// shard is where it entered, and group is nil when it is not there any more.
	claim      *Claim
	expires    time.Time // the claim's, or what the row said later
	shard      *shard
	group      *group
	prev, next *Flight
}

// group is a list of the flights of one key in a shard.
type group struct {
	first *Flight
	idle  *group // next in the shard's free list
}

// shard holds the flights of some keys.
type shard struct {
	mu     sync.Mutex
	groups map[store.ID]*group
	free   *group
	n      int
	_      [64]byte // keeps the locks of neighbours apart
}

// shards per stripe.
const shards = 64

// Flights are the requests that were let through, or are about to be, and have
// not ended. It is safe for concurrent use and has no goroutine.
//
// A key's requests are spread over a few stripes, so that the processors do not
// meet at the lock of one that is used all the time.
type Flights struct {
	now     func() time.Time
	stripes int
	shards  []shard

	expiring atomic.Bool // a timer is set
}

// NewFlights makes an empty registry.
func NewFlights(now func() time.Time) *Flights {
	stripes := min(8, runtime.GOMAXPROCS(0)/4+1)
	f := &Flights{now: now, stripes: stripes, shards: make([]shard, stripes*shards)}
	for i := range f.shards {
		f.shards[i].groups = make(map[store.ID]*group)
	}
	return f
}

// Enter adds a flight under its claim. It is to be called before the last check
// of the key: a revocation then finds the flight, or the check finds the
// revocation. [Flight.Leave] undoes it.
func (f *Flights) Enter(flight *Flight, claim *Claim) {
	flight.claim, flight.expires = claim, claim.ExpiresAt
	s := f.shard(claim.ID)
	flight.shard = s
	s.mu.Lock()
	g := s.groups[claim.ID]
	if g == nil {
		if g = s.free; g != nil {
			s.free, g.idle = g.idle, nil
		} else {
			g = new(group)
		}
		s.groups[claim.ID] = g
	}
	flight.group, flight.next, flight.prev = g, g.first, nil
	if g.first != nil {
		g.first.prev = flight
	}
	g.first = flight
	s.n++
	s.mu.Unlock()
	if !claim.ExpiresAt.IsZero() {
		f.watchExpiry()
	}
}

// Leave removes the flight from where it entered. It can be called more than
// once, for one that has not entered, and on nil.
func (flight *Flight) Leave() {
	if flight == nil || flight.shard == nil {
		return
	}
	s := flight.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	g := flight.group
	if g == nil {
		return
	}
	flight.group = nil
	s.n--
	if flight.next != nil {
		flight.next.prev = flight.prev
	}
	if flight.prev != nil {
		flight.prev.next = flight.next
		return
	}
	if g.first = flight.next; g.first == nil {
		delete(s.groups, flight.claim.ID)
		g.idle, s.free = s.free, g
	}
}

func (f *Flights) shard(id store.ID) *shard {
	at := uint(id[15]) % shards // the last bytes of a UUIDv7 are random
	if f.stripes > 1 {
		at += shards * rand.UintN(uint(f.stripes)) //nolint:gosec // spreads load
	}
	return &f.shards[at]
}

// Len is the number of flights.
func (f *Flights) Len() int {
	n := 0
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}

// Keys returns the keys that have flights, in order.
func (f *Flights) Keys() []store.ID {
	seen := make(map[store.ID]struct{})
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for id := range s.groups {
			seen[id] = struct{}{}
		}
		s.mu.Unlock()
	}
	ids := make([]store.ID, 0, len(seen))
	for id := range seen {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// Has reports whether the key has flights.
func (f *Flights) Has(id store.ID) bool {
	for s := range f.stripesOf(id) {
		s.mu.Lock()
		_, ok := s.groups[id]
		s.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// stripesOf yields the shards where flights of the key can be.
func (f *Flights) stripesOf(id store.ID) func(yield func(*shard) bool) {
	return func(yield func(*shard) bool) {
		for stripe := range f.stripes {
			if !yield(&f.shards[stripe*shards+int(id[15])%shards]) {
				return
			}
		}
	}
}

// Claim is what a request was let through with. It is shared and immutable.
type Claim struct {
	ID store.ID
	// Permissions is sorted.
	Permissions []string
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Fingerprint is that of the stored hash the key was verified against.
	Fingerprint [32]byte
	// Adopted says that it was let through as a key of another service, which only a
	// foreign row may do.
	Adopted bool
}

// Fingerprint names a stored hash without holding it.
func Fingerprint(hash store.Hash) [32]byte { return sha256.Sum256([]byte(hash)) }

// ClaimOf is the claim of a key that was verified against the row.
func ClaimOf(row *store.Key) *Claim {
	return &Claim{
		ID:          row.ID,
		Permissions: slices.Sorted(slices.Values(row.Permissions)),
		ExpiresAt:   row.ExpiresAt,
		Fingerprint: Fingerprint(row.Hash),
	}
}

// heldBy reports whether the row still holds every permission of the claim, and may
// be used by such a key.
func (c *Claim) heldBy(row *store.Key) bool {
	if c.Adopted && !row.Foreign {
		return false
	}
	for _, p := range c.Permissions {
		if !slices.Contains(row.Permissions, p) {
			return false
		}
	}
	return true
}
