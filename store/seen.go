package store

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Seen holds the history that a store's feeds have seen last. A driver keeps one Seen. It
// trusts an answer on its other connections only if their server has that history. After a
// failover a pool may still lead to the old primary, which is no standby, and does not know
// what was revoked since.
//
// The zero value has seen nothing, so that nothing is compared. That is safe, since an
// instance accepts no key before its first turn. The command line has no feed: see
// [Seen.Committed]. Seen is safe for concurrent use.
type Seen struct {
	last atomic.Pointer[history]

	mu      sync.Mutex
	renewed bool // within the last renewInterval
}

// history is the origin of a server, and a place in its change log.
type history struct {
	origin string
	place  Position // zero if no feed has seen one
}

// renewInterval is the shortest time between two renewals of the connections. Many requests
// find out at the same time that a connection leads to another history. If a pooler keeps
// the old connections, a renewal does not help.
const renewInterval = time.Second

// Note keeps the history of a view. A driver calls it before it returns the view, so before
// any of its changes is applied or acknowledged. Renewed says that the view is that of a
// renewal.
//
// Only a renewal can change the history. It was committed, and an old primary cannot commit
// without its standbys. A pull may reach an old primary through a pooler.
func (s *Seen) Note(v *View, renewed bool) {
	if v.Standby || !v.InLog && (!renewed || !v.Member) {
		return
	}
	if old := s.last.Load(); old != nil && *old == (history{v.Origin, v.Head}) {
		return
	}
	s.last.Store(&history{v.Origin, v.Head})
}

// Committed keeps the origin of a committed change if no feed has seen an origin. Later calls
// are compared with it.
func (s *Seen) Committed(origin string) {
	if s.last.Load() == nil {
		s.last.CompareAndSwap(nil, &history{origin: origin})
	}
}

// History returns the origin and the newest place that were seen. A call must read them before
// it sends its statement, which asks for both. If they are empty and zero, they are not known.
func (s *Seen) History() (origin string, place Position) {
	if last := s.last.Load(); last != nil {
		return last.origin, last.place
	}
	return "", Position{}
}

// Believe makes a call that compares the server's history. If the error is
// [ErrOtherHistory], it calls renew, which must replace the connections, and makes the call
// once more.
func (s *Seen) Believe(renew func(), call func() error) error {
	err := call()
	if !errors.Is(err, ErrOtherHistory) {
		return err
	}
	s.mu.Lock()
	if !s.renewed {
		s.renewed = true
		renew()
		time.AfterFunc(renewInterval, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.renewed = false
		})
	}
	s.mu.Unlock()
	return call()
}
