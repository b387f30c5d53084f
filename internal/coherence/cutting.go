package coherence

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Cut cuts every flight of a key, and returns how many it has cut.
func (f *Flights) Cut(id store.ID, cause error) int {
	return f.cutIf(id, func(*Flight) error { return cause })
}

// CutAll cuts every flight there is.
func (f *Flights) CutAll(cause error) int {
	n := 0
	for _, id := range f.Keys() {
		n += f.Cut(id, cause)
	}
	return n
}

// Review cuts the flights of a key that the row, as it is now, would not let
// through, and returns how many it has cut. The row is nil if it is gone.
// Rekeyed says that its hash may belong to another key.
func (f *Flights) Review(id store.ID, row *store.Key, rekeyed bool) int {
	now := f.now()
	n := f.cutIf(id, func(flight *Flight) error {
		switch {
		case row == nil || rekeyed && flight.claim.Fingerprint != Fingerprint(row.Hash):
			return cut.ErrRevoked
		case row.Expired(now):
			return cut.ErrExpired
		case !flight.claim.heldBy(row):
			return cut.ErrRevoked
		}
		flight.expires = row.ExpiresAt
		return nil
	})
	if row != nil && !row.ExpiresAt.IsZero() {
		f.watchExpiry()
	}
	return n
}

// cutIf cuts the flights for which there is a cause. They are gathered under the
// locks and cut outside of them: a request that ends leaves by itself.
func (f *Flights) cutIf(id store.ID, cause func(*Flight) error) int {
	type victim struct {
		request Cutter
		cause   error
	}
	var victims []victim
	for s := range f.stripesOf(id) {
		s.mu.Lock()
		if g := s.groups[id]; g != nil {
			for flight := g.first; flight != nil; flight = flight.next {
				if err := cause(flight); err != nil {
					victims = append(victims, victim{flight.Request, err})
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

// expiryInterval is how often flights are looked through for keys whose time is
// over, while there is one that will be.
const expiryInterval = 250 * time.Millisecond

func (f *Flights) watchExpiry() {
	if f.expiring.CompareAndSwap(false, true) {
		time.AfterFunc(expiryInterval, f.expire)
	}
}

// expire cuts what has expired, and comes again if something still will.
func (f *Flights) expire() {
	f.expiring.Store(false) // before looking: who enters now sets it again
	now := f.now()
	more := false
	for _, id := range f.Keys() {
		f.cutIf(id, func(flight *Flight) error {
			switch {
			case flight.expires.IsZero():
				return nil
			case !now.Before(flight.expires):
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
