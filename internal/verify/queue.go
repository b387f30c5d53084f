package verify

import (
	"container/list"
	"context"
	"sync"
)

// class is what a computation is for. The lower one goes first.
type class int

const (
	verifying class = iota // a request waits to be let in
	minting                // a new hash, which can be asked for again
)

// maxQueued is how many of each class may wait. A cold start of 1,000 keys must find
// a place or a Retry-After, never a pile of memory. New hashes that wait take one slot
// for about as long as [maxWaiting].
var maxQueued = [...]int{verifying: 128, minting: 64}

// queue hands out slots: to verifications first, and to new hashes while no
// verification waits. New hashes leave one slot free if there are several, so that a
// verification need not even wait for one of them to end.
type queue struct {
	mu      sync.Mutex
	slots   int64
	taken   [2]int64     // slots, by class
	waiting [2]list.List // of *place, by class
}

// place is one in the queue.
type place struct {
	weight  int64
	granted chan struct{} // closed when the slots are taken for it
}

// acquire takes slots, and returns [ErrBusy] if the queue is full, or the error of ctx.
func (q *queue) acquire(ctx context.Context, c class, weight int64) error {
	q.mu.Lock()
	mine := &place{weight, make(chan struct{})}
	element := q.waiting[c].PushBack(mine)
	q.grant()
	if q.waiting[c].Len() > maxQueued[c] {
		q.waiting[c].Remove(element)
		q.mu.Unlock()
		return ErrBusy
	}
	q.mu.Unlock()
	select {
	case <-mine.granted:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-mine.granted: // in the same moment
		return nil
	default:
	}
	q.waiting[c].Remove(element)
	q.grant() // it may have been in the way of others
	return ctx.Err()
}

func (q *queue) release(c class, weight int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken[c] -= weight
	q.grant()
}

// grant gives free slots to those that wait. The caller holds the lock.
func (q *queue) grant() {
	for {
		c, bound := verifying, q.slots
		if q.waiting[verifying].Len() == 0 {
			c, bound = minting, max(1, q.slots-1)
		}
		first := q.waiting[c].Front()
		if first == nil {
			return
		}
		next := first.Value.(*place)
		if q.taken[verifying]+q.taken[minting]+next.weight > q.slots || q.taken[c]+next.weight > bound {
			return
		}
		q.taken[c] += next.weight
		q.waiting[c].Remove(first)
		close(next.granted)
	}
}

// length is how many verifications wait, and inUse how many slots are taken.
func (q *queue) length() (waiting, inUse int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.waiting[verifying].Len()), q.taken[verifying] + q.taken[minting]
}
