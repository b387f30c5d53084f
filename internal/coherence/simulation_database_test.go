package coherence_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// database is what the instances of a simulation share: the rows, the log and the
// members, with the guarantees that the real ones are tested to give. What takes
// time or fails is the [link] to it.
type database struct {
	// plainSequence draws a revision when a statement runs, as a sequence does, and
	// not when its transaction is committed. Followers skip changes then.
	plainSequence bool
	// goneUnlogged has the deletion of a key without a row enter a barrier alone.
	goneUnlogged bool
	// insertsUnlogged leaves the place where it is when a key is inserted.
	insertsUnlogged bool

	mu      sync.Mutex
	random  *rand.Rand
	rows    map[store.ID]store.Key
	log     []store.Change // by Rev
	next    int64
	members map[store.ID]store.Member
	cuts    map[cutBy]int
	origin  int
	down    bool
	feeds   map[chan struct{}]bool
}

type cutBy struct {
	rev    int64
	member store.ID
}

func newDatabase(random *rand.Rand) *database {
	d := &database{
		random:          random,
		goneUnlogged:    os.Getenv(goneUnloggedVariable) != "",
		insertsUnlogged: os.Getenv(insertsUnloggedVariable) != "",
		rows:            make(map[store.ID]store.Key), members: make(map[store.ID]store.Member),
		cuts: make(map[cutBy]int), feeds: make(map[chan struct{}]bool),
	}
	d.commit(store.Barrier, store.ID{}, d.draw())
	return d
}

// draw takes the next revision. The caller holds the lock, but for the first.
func (d *database) draw() int64 {
	d.next++
	return d.next
}

func (d *database) commit(kind store.ChangeKind, key store.ID, rev int64) {
	d.log = append(d.log, store.Change{
		Position: store.Position{Rev: rev, Tag: d.random.Int64()}, Kind: kind, Key: key,
	})
	slices.SortFunc(d.log, func(a, b store.Change) int { return int(a.Rev - b.Rev) })
	for feed := range d.feeds {
		select {
		case feed <- struct{}{}:
		default:
		}
	}
}

// change is a transaction on one row, in two steps: the statement, and the
// commit, which may come later. Nobody else changes the row in between.
func (d *database) change(id store.ID, kind store.ChangeKind, pause time.Duration, edit func(*store.Key)) (*store.Key, error) {
	d.mu.Lock()
	_, ok := d.rows[id]
	var rev int64
	if ok && d.plainSequence {
		rev = d.draw()
	}
	d.mu.Unlock()
	if !ok {
		return nil, store.ErrNotFound
	}
	time.Sleep(pause)
	d.mu.Lock()
	defer d.mu.Unlock()
	row, ok := d.rows[id]
	if !ok {
		return nil, store.ErrNotFound
	}
	if !d.plainSequence {
		rev = d.draw()
	}
	if kind == store.KeyDeleted {
		delete(d.rows, id)
	} else {
		edit(&row)
		d.rows[id] = row
	}
	d.commit(kind, id, rev)
	return &row, nil
}

func (d *database) row(id store.ID) (store.Key, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	row, ok := d.rows[id]
	return row, ok
}

func (d *database) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// insert returns the newest revision, from which on the row is there.
func (d *database) insert(row store.Key) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[row.ID] = row
	if !d.insertsUnlogged {
		d.commit(store.KeysInserted, store.ID{}, d.draw())
	}
	return d.log[len(d.log)-1].Rev
}

// delete is change for a deletion, which is entered for an id without a row too.
func (d *database) delete(id store.ID, pause time.Duration) (*store.Key, error) {
	key, err := d.change(id, store.KeyDeleted, pause, nil)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.goneUnlogged {
			d.commit(store.Barrier, store.ID{}, d.draw())
		} else {
			d.commit(store.KeyDeleted, id, d.draw())
		}
	}
	return key, err
}

// lose takes a row away around the triggers.
func (d *database) lose(id store.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.rows, id)
}

// view is what a turn gets to see. The caller holds the lock.
func (d *database) view(turn *store.Turn) *store.View {
	v := &store.View{Watched: true, Head: d.log[len(d.log)-1].Position, Origin: fmt.Sprint(d.origin)}
	_, v.Member = d.members[turn.Member]
	at := slices.IndexFunc(d.log, func(c store.Change) bool { return c.Position == turn.Applied })
	if v.InLog = at >= 0; v.InLog {
		rest := d.log[at+1:]
		v.Changes = slices.Clone(rest[:min(len(rest), turn.Limit)])
	}
	return v
}

func (d *database) renew(turn *store.Turn) *store.View {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.view(turn)
	m, ok := d.members[turn.Member]
	if !ok {
		return v
	}
	v.LongestTTL = m.TTL
	for id, other := range d.members { // all of them, as if each was silent
		if v.LongestTTL = max(v.LongestTTL, other.TTL); id != turn.Member {
			v.Silent = append(v.Silent, other)
		}
	}
	slices.SortFunc(v.Silent, func(a, b store.Member) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	m.Heartbeat = d.random.Int64()
	if v.InLog {
		m.Applied = max(m.Applied, turn.Applied.Rev)
	}
	d.members[turn.Member] = m
	for _, c := range turn.Cuts {
		d.cuts[cutBy{c.Rev, turn.Member}] = c.Requests
	}
	return v
}

func (d *backup) progress(keys []store.ID) *store.Progress {
	p := &store.Progress{Head: d.log[len(d.log)-1].Position, Watched: true, Origin: d.origin}
	for _, m := range d.members {
		p.Members = append(p.Members, m)
	}
	slices.SortFunc(p.Members, func(a, b store.Member) int { return a.JoinedAt.Compare(b.JoinedAt) })
	for _, c := range d.log {
		if c.Kind == store.KeyDeleted && slices.Contains(keys, c.Key) {
			for by, n := range d.cuts {
				if by.rev == c.Rev {
					p.Cut += n
				}
			}
		}
	}
	return p
}

func (d *database) prune(keep int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = slices.Clone(d.log[max(0, len(d.log)-max(1, keep)):])
}

// backup is a state to go back to, and that of an old primary.
type backup struct {
	rows    map[store.ID]store.Key
	log     []store.Change
	next    int64
	members map[store.ID]store.Member
	cuts    map[cutBy]int
	origin  string
	// promoted says that a standby was, beside this one.
	promoted bool
}

func (d *database) backup() (b backup) {
	_ = d.look(nil, func(now *backup) error {
		b = *now
		b.rows, b.log, b.members, b.cuts = maps.Clone(b.rows), slices.Clone(b.log), maps.Clone(b.members), maps.Clone(b.cuts)
		return nil
	})
	return b
}

// look shows the old primary, or what there is now, which may not change meanwhile.
func (d *database) look(old *backup, do func(server *backup) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old != nil {
		return do(old)
	}
	return do(&backup{rows: d.rows, log: d.log, next: d.next, members: d.members, cuts: d.cuts, origin: fmt.Sprint(d.origin)})
}

// promote has a standby take over, for which all commits have waited, and returns
// the old primary, which can commit nothing any more.
func (d *database) promote() backup {
	old := d.backup()
	old.promoted = true
	d.mu.Lock()
	defer d.mu.Unlock()
	d.origin++
	return old
}

// restore goes back. The revisions are given out again, to other changes; the
// origin may or may not tell.
func (d *database) restore(b backup, tell bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows, d.log, d.next, d.members = maps.Clone(b.rows), slices.Clone(b.log), b.next, maps.Clone(b.members)
	if tell {
		d.origin++
	}
}
