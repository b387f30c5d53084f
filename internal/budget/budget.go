// Package budget counts failures by the address of the client, and says when an address
// has spent its budget.
//
// It holds a token bucket (golang.org/x/time/rate) for each address, in a cache of bounded
// size. A client with more addresses than the cache has places pushes out the counts of
// others. Their count then begins anew, so they may fail more often before they are told
// to wait. Nobody is refused because the cache is full.
package budget

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
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
	// Window is the time in which that many failures are forgotten, one after another.
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

// New makes a budget that remembers size addresses: [Size], or less in tests. The error is
// that of [Limit.Check].
func New(limit Limit, size int, now func() time.Time) (*Budget, error) {
	if err := limit.Check(); err != nil {
		return nil, err
	}
	return &Budget{limit: limit, now: now, buckets: lru.New[netip.Prefix, *rate.Limiter](size)}, nil
}

// Fail counts a failure of a client. It returns zero while the client is within its
// budget. Otherwise it returns how long the client has to wait. A failure beyond the
// budget does not prolong the wait. A client whose address is not known is not counted,
// since it might be anybody.
func (b *Budget) Fail(client string) time.Duration {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return 0
	}
	bucket, now := b.bucket(networkOf(address)), b.now()
	if bucket.AllowN(now, 1) {
		return 0
	}
	missing := 1 - bucket.TokensAt(now)
	wait := time.Duration(missing / float64(bucket.Limit()) * float64(time.Second))
	return max(wait.Round(time.Millisecond), time.Millisecond)
}

// bucket finds or makes the token bucket of a network.
func (b *Budget) bucket(network netip.Prefix) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bucket, ok := b.buckets.Get(network); ok {
		return bucket
	}
	bucket := rate.NewLimiter(rate.Limit(float64(b.limit.Count)/b.limit.Window.Seconds()), b.limit.Count)
	b.buckets.Add(network, bucket)
	return bucket
}

// networkOf returns the addresses whose failures are counted together: one IPv4 address, or
// the first 64 bits of an IPv6 address. A client that has one address of such a network
// has all of them (RFC 4291 section 2.5.1).
func networkOf(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(address, bits).Masked()
}
