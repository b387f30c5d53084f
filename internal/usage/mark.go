package usage

import (
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Mark remembers the last use of one key until it is written. It lives in the
// cache entry of its key; a mark that waits to be written outlives the entry.
type Mark struct {
	id    store.ID
	last  atomic.Int64 // microseconds since the Unix epoch
	dirty atomic.Bool
}

// NewMark makes the mark of a key that was not used yet.
func NewMark(id store.ID) *Mark { return &Mark{id: id} }

// raise moves the last use forward to at and reports whether the mark was
// clean, so that it has to be queued.
func (m *Mark) raise(at time.Time) bool {
	us := at.UnixMicro()
	for last := m.last.Load(); us > last; last = m.last.Load() {
		if m.last.CompareAndSwap(last, us) {
			break
		}
	}
	return !m.dirty.Load() && m.dirty.CompareAndSwap(false, true)
}

// take gives the use to write. The mark is clean before its time is read: a use
// that comes between the two is queued again rather than lost.
func (m *Mark) take() store.Use {
	m.dirty.Store(false)
	return store.Use{ID: m.id, At: time.UnixMicro(m.last.Load()).UTC()}
}
