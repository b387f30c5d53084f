package coherence

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Cut cuts every request of a key, and returns how many it has cut. Requests that have ended
// meanwhile do not count.
func (f *InFlight) Cut(id store.ID, cause error) int {
	return f.cutIf(id, func(*Request) error { return cause })
}

// CutAll cuts every request in flight, and returns how many it has cut.
func (f *InFlight) CutAll(cause error) int {
	n := 0
	for _, id := range f.Keys() {
		n += f.Cut(id, cause)
	}
	return n
}

// Review cuts the requests of a key that its row would not let through now, and returns how
// many it has cut. The row is nil if it is gone. Rekeyed says that the hash may belong to
// another key now.
func (f *InFlight) Review(id store.ID, row *store.Key, rekeyed bool) int {
	now := f.now()
	n := f.cutIf(id, func(request *Request) error {
		switch {
		case row == nil || rekeyed && request.claim.Fingerprint != Fingerprint(row.Hash):
			return cut.ErrRevoked
		case row.Expired(now):
			return cut.ErrExpired
		case !request.claim.grantedBy(row):
			return cut.ErrRevoked
		case !row.Networks.Allow(request.Client):
			return cut.ErrNetwork
		}
		request.expires = row.ExpiresAt
		return nil
	})
	if row != nil && !row.ExpiresAt.IsZero() {
		f.watchExpiry()
	}
	return n
}

// cutIf cuts the requests of a key for which cause returns an error. It gathers them under
// the locks and cuts them outside, because a request that ends takes the lock to leave.
func (f *InFlight) cutIf(id store.ID, cause func(*Request) error) int {
	type victim struct {
		request *cut.Exchange
		cause   error
	}
	var victims []victim
	for s := range f.shardsOf(id) {
		s.mu.Lock()
		if g := s.groups[id]; g != nil {
			for request := g.first; request != nil; request = request.next {
				if err := cause(request); err != nil {
					victims = append(victims, victim{request.Exchange, err})
				}
			}
		}
		s.mu.Unlock()
	}
	n := 0
	for _, v := range victims {
		if v.request.Cut(v.cause) {
			n++
		}
	}
	return n
}

// expiryInterval is how often the requests are searched for keys that have expired, while there
// is a request whose key can expire. So a request outlives its key by about so much at most.
const expiryInterval = 250 * time.Millisecond

// watchExpiry starts the timer for the next search, unless it is running.
func (f *InFlight) watchExpiry() {
	if f.expiring.CompareAndSwap(false, true) {
		time.AfterFunc(expiryInterval, f.expire)
	}
}

// expire cuts the requests whose key has expired. It starts the timer again if another key
// can expire.
func (f *InFlight) expire() {
	f.expiring.Store(false) // before the search: a request that enters now starts the timer
	now := f.now()
	more := false
	for _, id := range f.Keys() {
		f.cutIf(id, func(request *Request) error {
			switch {
			case request.expires.IsZero():
				return nil
			case !now.Before(request.expires):
				return cut.ErrExpired
			}
			more = true
			return nil
		})
	}
	if more {
		f.watchExpiry()
	}
}
