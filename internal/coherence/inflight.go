package coherence

import (
	"bytes"
	"crypto/sha256"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Request is a request's place in [InFlight]. It is a field of the request, so that entering
// allocates nothing. It is used once.
type Request struct {
	// Exchange is what a revocation cuts.
	Exchange *cut.Exchange
	// Client is the address of the client, as text.
	Client string

	claim   *Claim
	expires time.Time // the claim's expiry, or that of the row as it was read later
	// shard is where the request has entered. Group is nil once the request has left.
	shard      *shard
	group      *group
	prev, next *Request
}

// group is a list of the requests of one key in a shard.
type group struct {
	first    *Request
	nextFree *group // in the shard's free list
}

// shard holds the requests of some keys.
type shard struct {
	mu     sync.Mutex
	groups map[store.ID]*group
	free   *group   // a list of groups to use again, so that entering does not allocate
	count  int      // of requests
	_      [64]byte // keeps the locks of neighbours apart
}

// shardsPerStripe is how many shards a stripe has.
const shardsPerStripe = 64

// InFlight is the registry of the requests in flight: they were let through, or are about to
// be, and have not ended. It is safe for concurrent use and has no goroutine.
//
// A key's requests are spread over a few stripes. So the processors do not compete for the
// lock of one shard if a single key is used all the time.
type InFlight struct {
	now     func() time.Time
	stripes int
	shards  []shard

	expiring atomic.Bool // a timer is set
}

// NewInFlight makes an empty registry.
func NewInFlight(now func() time.Time) *InFlight {
	stripes := min(8, runtime.GOMAXPROCS(0)/4+1)
	f := &InFlight{now: now, stripes: stripes, shards: make([]shard, stripes*shardsPerStripe)}
	for i := range f.shards {
		f.shards[i].groups = make(map[store.ID]*group)
	}
	return f
}

// Enter adds a request under its claim. It must be called before the last check of the key.
// Then either a revocation finds the request, or the check finds the revocation.
// [Request.Leave] undoes it.
func (f *InFlight) Enter(request *Request, claim *Claim) {
	request.claim, request.expires = claim, claim.ExpiresAt
	s := f.shard(claim.ID)
	request.shard = s
	s.mu.Lock()
	g := s.groups[claim.ID]
	if g == nil {
		if g = s.free; g != nil {
			s.free, g.nextFree = g.nextFree, nil
		} else {
			g = new(group)
		}
		s.groups[claim.ID] = g
	}
	// The newest request is the first of the group.
	request.group, request.next, request.prev = g, g.first, nil
	if g.first != nil {
		g.first.prev = request
	}
	g.first = request
	s.count++
	s.mu.Unlock()
	if !claim.ExpiresAt.IsZero() {
		f.watchExpiry()
	}
}

// Leave removes the request from the registry. It does nothing if the request is nil, has not
// entered, or has left already.
func (request *Request) Leave() {
	if request == nil || request.shard == nil {
		return
	}
	s := request.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	g := request.group
	if g == nil {
		return
	}
	request.group = nil
	s.count--
	if request.next != nil {
		request.next.prev = request.prev
	}
	if request.prev != nil {
		request.prev.next = request.next
		return
	}
	// It was the first of the group. An empty group goes to the free list.
	if g.first = request.next; g.first == nil {
		delete(s.groups, request.claim.ID)
		g.nextFree, s.free = s.free, g
	}
}

// shard returns a shard where requests of the key may enter, in a stripe at random.
func (f *InFlight) shard(id store.ID) *shard {
	at := uint(id[15]) % shardsPerStripe // the last bytes of a UUIDv7 are random
	if f.stripes > 1 {
		at += shardsPerStripe * rand.UintN(uint(f.stripes)) //nolint:gosec // spreads load
	}
	return &f.shards[at]
}

// Len is the number of requests. Requests that enter or leave meanwhile may be counted or not.
func (f *InFlight) Len() int {
	n := 0
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		n += s.count
		s.mu.Unlock()
	}
	return n
}

// Keys returns the keys that have requests, in order. A request that enters meanwhile may be
// missing: its own last check comes later than the change that the caller looks for.
func (f *InFlight) Keys() []store.ID {
	seen := make(map[store.ID]struct{})
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for id := range s.groups {
			seen[id] = struct{}{}
		}
		s.mu.Unlock()
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
}

// Has reports whether the key has requests.
func (f *InFlight) Has(id store.ID) bool {
	for s := range f.shardsOf(id) {
		s.mu.Lock()
		_, ok := s.groups[id]
		s.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// shardsOf yields the shards where requests of the key can be: one in each stripe.
func (f *InFlight) shardsOf(id store.ID) iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		for stripe := range f.stripes {
			if !yield(&f.shards[stripe*shardsPerStripe+int(id[15])%shardsPerStripe]) {
				return
			}
		}
	}
}

// Claim is the state of the key that let a request through. All requests of the key share
// it. It is immutable.
type Claim struct {
	ID store.ID
	// Permissions is sorted.
	Permissions []string
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Fingerprint is that of the stored hash that the key was verified against.
	Fingerprint [32]byte
	// Adopted says that the request was let through with a key of another service. Only a
	// foreign row may do that.
	Adopted bool
}

// Fingerprint names a stored hash without revealing it.
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

// grantedBy reports whether the row still grants every permission of the claim, and still
// accepts keys of other services if the claim is for one.
func (c *Claim) grantedBy(row *store.Key) bool {
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
