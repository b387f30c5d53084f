// Package budget counts failures by the address of the client, and says when an
// address has had its share.
//
// It holds a token bucket (golang.org/x/time/rate) for each address in a cache of
// bounded size. Whoever has more addresses than the cache has places pushes out
// the counts of others: they then fail a little longer before they are told to
// wait. Nobody is refused for want of a place.
package budget

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Bounds of [Limit], and of the addresses that are remembered.
const (
	MaxCount  = 1_000_000
	MinWindow = time.Second
	MaxWindow = 24 * time.Hour
	// Size is how many addresses are remembered, at about 300 bytes each.
	Size = 16384
)

// Limit is how many failures an address may have.
type Limit struct {
	// Count is the number of failures that may come at once, 1 to [MaxCount].
	Count int
	// Window is the time in which that many are forgotten, one after another.
	Window time.Duration
}

// Check reports what is wrong with the limit.
func (l Limit) Check() error {
	if l.Count < 1 || l.Count > MaxCount {
		return fmt.Errorf("the count must be from 1 to %d, not %d", MaxCount, l.Count)
	}
	if l.Window < MinWindow || l.Window > MaxWindow {
		return fmt.Errorf("the window must be from %s to %s, not %s", MinWindow, MaxWindow, l.Window)
	}
	return nil
}

// Budget counts failures. It is safe for concurrent use.
type Budget struct {
	limit   Limit
	now     func() time.Time
	mu      sync.Mutex // makes finding and adding one step
	buckets *lru.Cache[netip.Prefix, *rate.Limiter]
}

// New makes a budget that remembers so many addresses, [Size] in earnest.
func New(limit Limit, size int, now func() time.Time) (*Budget, error) {
	buckets, err := lru.New[netip.Prefix, *rate.Limiter](size)
	if err := errors.Join(limit.Check(), err); err != nil {
		return nil, err
	}
	return &Budget{limit: limit, now: now, buckets: buckets}, nil
}

// Fail counts a failure of a client. It returns zero while the client is within
// its budget, and otherwise how long it takes until it is again, if it sends
// nothing: a failure beyond the budget does not prolong the wait. A client whose
// address is not known is not counted, since it might be anybody.
func (b *Budget) Fail(client string) time.Duration {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return 0
	}
	bucket, now := b.bucket(network(address)), b.now()
	if bucket.AllowN(now, 1) {
		return 0
	}
	missing := 1 - bucket.TokensAt(now)
	wait := time.Duration(missing / float64(bucket.Limit()) * float64(time.Second))
	return max(wait.Round(time.Millisecond), time.Millisecond)
}

func (b *Budget) bucket(of netip.Prefix) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bucket, ok := b.buckets.Get(of); ok {
		return bucket
	}
	bucket := rate.NewLimiter(rate.Limit(float64(b.limit.Count)/b.limit.Window.Seconds()), b.limit.Count)
	b.buckets.Add(of, bucket)
	return bucket
}

// network is whose failures are counted together: an IPv4 address, or the 64 bits
// of an IPv6 address by which networks are handed out (RFC 4291 section 2.5.1),
// each of whose holders has all of it.
func network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	of, err := address.Prefix(bits)
	if err != nil { // the number of bits fits
		panic(err)
	}
	return of
}
