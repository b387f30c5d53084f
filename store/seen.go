package store

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Seen is what a store's feeds have seen last. A driver keeps one, and believes
// its other connections only as far as their server has that history: after a
// failover a pool may still lead to the old primary, which is no standby, and knows
// nothing of what was revoked since.
//
// The zero value has seen nothing, and then nothing can be compared. A server
// accepts nothing before its first turn. The command line has no feed: see
// [Seen.Committed]. It is safe for concurrent use.
type Seen struct {
	last atomic.Pointer[sighting]

	mu    sync.Mutex
	spent bool // connections were renewed within the last renewInterval
}

type sighting struct {
	origin string
	place  Position // zero: no feed has said it
}

// renewInterval is how often connections are renewed at most because one of them
// led elsewhere. Many requests find that out at the same time, and it does not
// help where a pooler keeps the old connections.
const renewInterval = time.Second

// Note takes in a view before it is handed to who follows, hence before anything
// of it is applied or acknowledged. Renewed says that it is that of a renewal.
//
// Only a renewal may lead to another history. It was committed, for which an old
// primary needs its standbys. A pull may reach that one through a pooler.
func (s *Seen) Note(v *View, renewed bool) {
	if v.Standby || !v.InLog && (!renewed || !v.Member) {
		return
	}
	if old := s.last.Load(); old != nil && *old == (sighting{v.Origin, v.Head}) {
		return
	}
	s.last.Store(&sighting{v.Origin, v.Head})
}

// Committed notes the origin of a change that was committed while no feed has said
// one. What comes next is compared with that.
func (s *Seen) Committed(origin string) {
	if s.last.Load() == nil {
		s.last.CompareAndSwap(nil, &sighting{origin: origin})
	}
}

// History returns the origin and the newest place that were seen. A call reads
// them before it sends its statement, which asks for both. An empty origin and the
// zero place are not known.
func (s *Seen) History() (origin string, place Position) {
	if last := s.last.Load(); last != nil {
		return last.origin, last.place
	}
	return "", Position{}
}

// Believe makes a call that asks for what was seen. If its server has another
// history, renew is to make new connections, and the call is made once more.
func (s *Seen) Believe(renew func(), call func() error) error {
	err := call()
	if !errors.Is(err, ErrOtherHistory) {
		return err
	}
	s.mu.Lock()
	if !s.spent {
		s.spent = true
		renew()
		time.AfterFunc(renewInterval, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.spent = false
		})
	}
	s.mu.Unlock()
	return call()
}
