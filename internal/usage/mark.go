package usage

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Mark counts what one key is used for, until it is written. It is a part of the key's slot
// in memory, and outlives the slot while it waits to be written. It is safe for concurrent
// use. [Recorder.Mark] makes one. A nil mark counts nothing.
//
// A use from an address that was seen since the last write costs no allocation and no lock.
type Mark struct {
	recorder *Recorder // nil counts nothing
	id       store.ID
	last     atomic.Int64 // microseconds since the Unix epoch
	dirty    atomic.Bool  // it is queued
	urgent   atomic.Bool  // the next use is to be written at once

	// counts are those since the last write, or nil. They are made, grow, and are taken under
	// the lock.
	counts atomic.Pointer[counts]
	mu     sync.Mutex
}

// counts are taken as a whole. Who adds to a cell that was taken sees that, and counts anew, so
// that nothing is lost. Lists are copied before they grow: readers hold no lock.
type counts struct {
	first   int64
	clients [8]atomic.Pointer[client] // by the last character of the address
	cells   atomic.Pointer[[]*cell]
	asked   atomic.Pointer[[]*question]
	details int // what this has taken of the recorder's room
}

// client remembers the cell of an address: to find out its network takes 50 ns. It stays until
// the counts are taken.
type client struct {
	address string
	cell    *cell
}

// cell counts the uses from one network on one day. Its count is less than zero once it was
// taken.
type cell struct {
	network  netip.Prefix // zero if it is not known, or not counted
	day      store.Day
	first    int64
	last     atomic.Int64
	requests atomic.Int64
}

// question is a permission that was asked of the key, and when that was last.
type question struct {
	permission string
	last       atomic.Int64
}

// Bounds of what is counted between two writes. If one is reached, a write is asked for. Until
// then, uses from further networks count to the day alone.
const (
	// markDetails is how many networks, and how many permissions, one key has.
	markDetails = 64
	// maxDetails is how many addresses, networks and permissions all keys have. Each takes
	// some 70 bytes.
	maxDetails = 500_000
)

// closed is the count of a cell, and the time of a question, that were taken. It is far from
// zero, so late additions stay negative. It is far from the least number too, so a difference
// does not overflow.
const closed = math.MinInt64 / 2

// fine is how exact the last time of a network or a permission is. To set it at each request
// would take as long as all the rest.
const fine = int64(time.Second / time.Microsecond)

// Use notes that the key was used at this time, by a client with this address. The address may
// be empty. Times may come in any order: the latest is the last use.
func (m *Mark) Use(address string, at time.Time) {
	if m == nil || m.recorder == nil {
		return
	}
	us := at.UnixMicro()
	for last := m.last.Load(); us > last; last = m.last.Load() {
		if m.last.CompareAndSwap(last, us) {
			break
		}
	}
	if c := m.counts.Load(); c == nil || !c.again(address, us) {
		m.count(address, us)
	}
	if !m.dirty.Load() {
		m.queue()
	}
}

// Hurry makes the next use be written at once, and not with those of an interval. It is for the
// successor of a rotation: its first use ends the old key.
func (m *Mark) Hurry() { m.urgent.Store(true) }

// Ask notes that the permission was asked of the key, by a request that was just noted.
func (m *Mark) Ask(permission string) {
	if m == nil || m.recorder == nil {
		return
	}
	us := m.last.Load()
	c := m.counts.Load()
	if c == nil || !c.askedAgain(permission, us) {
		m.ask(permission, us)
	}
	if !m.dirty.Load() {
		m.queue()
	}
}

// queue puts the mark before the next write. It comes after the count, so that a write that
// misses the count finds the mark in the queue again. A mark is in the queue once at most.
func (m *Mark) queue() {
	if m.dirty.CompareAndSwap(false, true) {
		m.recorder.enqueue(m)
		if m.urgent.Swap(false) {
			m.recorder.worker.Wake()
		}
	}
}

// again counts a use from an address that is remembered. It returns false if it has not counted:
// the address is another one, the day is over, or the cell was taken.
func (c *counts) again(address string, us int64) bool {
	known := c.clients[place(address)].Load()
	return known != nil && known.address == address && known.cell.day == dayOf(us) && known.cell.add(us)
}

// askedAgain notes a question that was asked before, and reports whether it did.
func (c *counts) askedAgain(permission string, us int64) bool {
	q := c.question(permission)
	return q != nil && (us-q.last.Load() < fine || q.last.Swap(us) != closed)
}

// add counts a use, unless the cell was taken.
//
// A count below zero says that the cell is closed: whoever closed it has written its number.
func (c *cell) add(us int64) bool {
	if c.requests.Add(1) < 0 {
		return false
	}
	if us-c.last.Load() >= fine {
		c.last.Store(us)
	}
	return true
}

// count is [Mark.Use] for an address that is not remembered. If others are remembered in its
// place, it costs no lock and no allocation either, but 50 ns more.
//
// Under the lock, the counts cannot be taken, so what is added to them is written. A network for
// which there is no room counts to the day, as one that is not known.
func (m *Mark) count(address string, us int64) {
	network, day := store.NetworkOf(address), dayOf(us)
	if c := m.counts.Load(); c != nil && c.clients[place(address)].Load() != nil {
		if found := c.cell(network, day); found != nil && found.add(us) {
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.grown(us)
	found := c.cell(network, day)
	if found == nil && network.IsValid() && !m.room(c, len(c.all())) {
		network = netip.Prefix{}
		found = c.cell(network, day)
	}
	if found == nil {
		found = &cell{network: network, day: day, first: us}
		found.last.Store(us)
		cells := append(slices.Clip(c.all()), found)
		c.cells.Store(&cells)
	}
	if known := &c.clients[place(address)]; known.Load() == nil && found.network == network && m.room(c, 0) {
		known.Store(&client{strings.Clone(address), found})
	}
	found.add(us)
}

// ask is [Mark.Ask] for a permission that was not asked since the last write.
func (m *Mark) ask(permission string, us int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.grown(us)
	if c.askedAgain(permission, us) {
		return
	}
	var before []*question
	if all := c.asked.Load(); all != nil {
		before = *all
	}
	if !m.room(c, len(before)) {
		return
	}
	q := &question{permission: strings.Clone(permission)}
	q.last.Store(us)
	after := append(slices.Clip(before), q)
	c.asked.Store(&after)
}

// grown returns the counts, which are made if there are none. The caller holds the lock, so
// that nobody takes them.
//
// The first use since the last write decides when this count began.
func (m *Mark) grown(us int64) *counts {
	c := m.counts.Load()
	if c == nil {
		c = &counts{first: us}
		m.counts.Store(c)
	}
	return c
}

// room takes room for one more detail of a mark that has n of the kind. Without room it asks for
// a write. Marks of other keys may take room at the same time, so the bound may be passed by a
// few.
func (m *Mark) room(c *counts, n int) bool {
	if n >= markDetails || m.recorder.details.Load() >= maxDetails {
		m.recorder.worker.Wake()
		return false
	}
	m.recorder.details.Add(1)
	c.details++
	return true
}

// all returns the cells. Nobody may change the list.
func (c *counts) all() []*cell {
	if all := c.cells.Load(); all != nil {
		return *all
	}
	return nil
}

// cell returns the cell of a network and a day, or nil. There are few cells, so a search is
// faster than a map.
func (c *counts) cell(network netip.Prefix, day store.Day) *cell {
	for _, cell := range c.all() {
		if cell.day == day && cell.network == network {
			return cell
		}
	}
	return nil
}

// question returns the question for a permission, or nil.
func (c *counts) question(permission string) *question {
	if all := c.asked.Load(); all != nil {
		for _, q := range *all {
			if q.permission == permission {
				return q
			}
		}
	}
	return nil
}

// take returns what to write. It makes the mark clean before it takes the counts, so that a use
// between the two steps is queued again and not lost. Such a use may be counted already, and the
// next take then finds nothing. Only [Recorder.Flush] calls it, one call at a time.
func (m *Mark) take() *store.Use {
	m.dirty.Store(false)
	m.mu.Lock()
	c := m.counts.Swap(nil)
	m.mu.Unlock()
	use := &store.Use{ID: m.id}
	if c == nil {
		return use
	}
	for _, cell := range c.all() {
		requests := cell.requests.Swap(closed)
		if requests == 0 {
			continue
		}
		addDay(use, store.DayUse{Day: cell.day, Requests: requests})
		if cell.network.IsValid() {
			addNetwork(use, store.NetworkUse{
				Network: cell.network, FirstAt: instant(cell.first), LastAt: instant(cell.last.Load()), Requests: requests,
			})
		}
	}
	if asked := c.asked.Load(); asked != nil {
		for _, q := range *asked {
			addAsked(use, store.AskedPermission{Permission: q.permission, LastAt: instant(q.last.Swap(closed))})
		}
	}
	if len(use.Days) > 0 {
		use.First, use.At = instant(c.first), instant(m.last.Load())
	}
	m.recorder.details.Add(int64(-c.details))
	return use
}

// place spreads addresses by their last character, which differs most.
//
// Two addresses in one place share it: the second one takes the longer way each time.
func place(address string) int {
	if address == "" {
		return 0
	}
	return int(address[len(address)-1] % 8)
}

// dayOf is the day in UTC of a time in microseconds since the Unix epoch.
func dayOf(us int64) store.Day { return store.Day(us / (24 * time.Hour).Microseconds()) }

func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }
