package coherence_test

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

var errLink = errors.New("connection lost")

// link is one process's way to the database. It takes time, loses messages in
// either direction, and stands still while the process does.
type link struct {
	store.Store // for what the simulation does not call
	database    *database

	mu      sync.Mutex
	seed    uint64
	randoms map[string]*rand.Rand // by kind of call, so that they do not disturb each other
	slow    time.Duration         // added to every message
	lost    bool                  // nothing gets through
	answers bool                  // answers are lost
	dead    bool                  // the process was killed
	old     *backup               // the old primary, to which the pool leads after a failover
	seen    store.Seen            // as the drivers keep it
	resume  chan struct{}         // the process is stopped until it is closed; nil: runs
}

func newLink(d *database, seed uint64) *link {
	return &link{database: d, seed: seed, randoms: make(map[string]*rand.Rand)}
}

// random needs the lock.
func (l *link) random(kind string) *rand.Rand {
	r := l.randoms[kind]
	if r == nil {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(kind))
		r = rand.New(rand.NewPCG(l.seed, hash.Sum64()))
		l.randoms[kind] = r
	}
	return r
}

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// stop reports whether it did: somebody else may have.
func (l *link) stop() (stopped bool) {
	l.set(func() {
		if l.resume == nil {
			l.resume, stopped = make(chan struct{}), true
		}
	})
	return stopped
}

func (l *link) cont() {
	l.set(func() {
		if l.resume != nil {
			close(l.resume)
			l.resume = nil
		}
	})
}

// gate holds up whoever passes while the process is stopped.
func (l *link) gate() {
	for {
		l.mu.Lock()
		resume := l.resume
		l.mu.Unlock()
		if resume == nil {
			return
		}
		<-resume
	}
}

// message takes its time, and fails if it is lost.
func (l *link) message(ctx context.Context, kind string, answer bool) error {
	l.mu.Lock()
	delay := 20*time.Microsecond + time.Duration(l.random(kind).ExpFloat64()*float64(2*time.Millisecond)) + l.slow
	lost := l.lost || l.dead || answer && l.answers
	l.mu.Unlock()
	if lost { // the kernel goes on to try for a while
		delay = 10 * time.Second
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
	}
	if lost {
		return errLink
	}
	return nil
}

// call sends work to the database, and waits for the answer.
func (l *link) call(ctx context.Context, kind string, work func() error) error {
	l.gate()
	defer l.gate()
	if err := l.message(ctx, kind, false); err != nil {
		return err
	}
	l.database.mu.Lock()
	down := l.database.down
	l.database.mu.Unlock()
	if down {
		return errors.New("the database is starting up")
	}
	err := work()
	if lost := l.message(ctx, kind, true); lost != nil {
		return lost
	}
	return err
}

func (l *link) Key(ctx context.Context, id store.ID) (key *store.Key, err error) {
	err = l.pooled(ctx, "key", nil, func(server *backup, origin string) error {
		row, ok := server.rows[id]
		switch {
		case !ok && origin != "" && origin != server.origin:
			return store.ErrOtherHistory
		case !ok && server.promoted:
			return errLink // who follows it still knows no key that was minted since
		case !ok:
			return store.ErrNotFound
		}
		key = &row
		return nil
	})
	return key, err
}

// pooled makes a call of the pool as the drivers do. It looks at its server, which
// has the place that was seen, and then does the work, if there is any. Half of the
// processes have a pooler between, which keeps its connections when theirs are made
// anew.
func (l *link) pooled(ctx context.Context, kind string, work func() error, look func(server *backup, origin string) error) error {
	renew := func() {
		l.set(func() {
			if l.seed%2 == 0 {
				l.old = nil
			}
		})
	}
	return l.seen.Believe(renew, func() error {
		origin, place := l.seen.History()
		return l.call(ctx, kind, func() error {
			l.mu.Lock()
			old := l.old
			l.mu.Unlock()
			err := l.database.look(old, func(server *backup) error {
				if place.Rev != 0 && !slices.ContainsFunc(server.log, func(c store.Change) bool { return c.Position == place }) {
					return store.ErrOtherHistory
				}
				return look(server, origin)
			})
			if err != nil || work == nil {
				return err
			}
			return work()
		})
	})
}

// written is pooled for what is written, which an old primary can never commit.
func (l *link) written(ctx context.Context, kind string, work func() error) error {
	var at string
	err := l.pooled(ctx, kind, work, func(server *backup, origin string) error {
		at = server.origin
		switch {
		case origin != "" && origin != at:
			return store.ErrOtherHistory
		case server.promoted:
			return errLink
		}
		return nil
	})
	if err == nil {
		l.seen.Committed(at)
	}
	return err
}

func (l *link) DeleteKey(ctx context.Context, id store.ID, write *store.Write) (key *store.Key, err error) {
	l.mu.Lock()
	pause := time.Duration(l.random("delete").Int64N(int64(3 * time.Millisecond)))
	l.mu.Unlock()
	err = l.written(ctx, "delete", func() (err error) {
		if key, err = l.database.delete(id, pause); err == nil {
			_, _ = write.Records(key)
		}
		return err
	})
	return key, err
}

func (l *link) Barrier(ctx context.Context) (rev int64, err error) {
	err = l.written(ctx, "barrier", func() error {
		l.database.mu.Lock()
		defer l.database.mu.Unlock()
		rev = l.database.draw()
		l.database.commit(store.Barrier, store.ID{}, rev)
		return nil
	})
	return rev, err
}

// Audit has no records: what is answered for a key that is gone is of no matter.
func (l *link) Audit(context.Context, *store.AuditQuery) (*store.AuditPage, error) {
	return &store.AuditPage{}, nil
}

func (l *link) Progress(ctx context.Context, keys, awaited []store.ID) (p *store.Progress, err error) {
	err = l.pooled(ctx, "progress", nil, func(server *backup, origin string) error {
		if origin != "" && origin != server.origin {
			return store.ErrOtherHistory
		}
		p = server.progress(keys)
		p.Members = slices.DeleteFunc(p.Members, func(m store.Member) bool {
			return awaited != nil && !slices.Contains(awaited, m.ID)
		})
		return nil
	})
	return p, err
}

func (l *link) Leave(ctx context.Context, member store.ID) error {
	return l.written(ctx, "leave", func() error {
		l.database.mu.Lock()
		defer l.database.mu.Unlock()
		delete(l.database.members, member)
		return nil
	})
}

func (l *link) Reap(ctx context.Context, member store.ID, heartbeat int64) (reaped bool, err error) {
	err = l.written(ctx, "reap", func() error {
		l.database.mu.Lock()
		defer l.database.mu.Unlock()
		if m, ok := l.database.members[member]; ok && m.Heartbeat == heartbeat {
			delete(l.database.members, member)
			reaped = true
		}
		return nil
	})
	return reaped, err
}

// Prune is left to the faults, which prune harder.
func (l *link) Prune(context.Context, int) error { return nil }

func (l *link) Follow(ctx context.Context) (store.Feed, error) {
	feed := &linkFeed{link: l, hints: make(chan struct{}, 1)}
	err := l.call(ctx, "follow", func() error {
		l.database.mu.Lock()
		defer l.database.mu.Unlock()
		l.database.feeds[feed.hints] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return feed, nil
}

// linkFeed is a feed over a link.
type linkFeed struct {
	link  *link
	hints chan struct{}
}

func (f *linkFeed) Join(ctx context.Context, m *store.Member) error {
	d := f.link.database
	return f.link.call(ctx, "join", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if _, ok := d.members[m.ID]; ok {
			return store.ErrConflict
		}
		row := *m
		row.Applied, row.Heartbeat, row.JoinedAt = 0, d.random.Int64(), time.Now()
		d.members[m.ID] = row
		return nil
	})
}

func (f *linkFeed) Renew(ctx context.Context, turn *store.Turn) (v *store.View, err error) {
	sent := *turn
	err = f.link.call(ctx, "renew", func() error {
		v = f.link.database.renew(&sent)
		return nil
	})
	return f.see(v, true, err)
}

func (f *linkFeed) Pull(ctx context.Context, turn *store.Turn) (v *store.View, err error) {
	sent := *turn
	err = f.link.call(ctx, "pull", func() error {
		f.link.database.mu.Lock()
		defer f.link.database.mu.Unlock()
		v = f.link.database.view(&sent)
		return nil
	})
	return f.see(v, false, err)
}

func (f *linkFeed) see(v *store.View, renewed bool, err error) (*store.View, error) {
	if err != nil {
		return nil, err
	}
	f.link.seen.Note(v, renewed)
	return v, nil
}

// Wait hears one hint in three not at all.
func (f *linkFeed) Wait(ctx context.Context, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return nil
		case <-f.hints:
			f.link.mu.Lock()
			heard := !f.link.lost && f.link.random("wait").IntN(3) > 0
			f.link.mu.Unlock()
			if heard {
				return nil
			}
		}
	}
}

func (f *linkFeed) Close() error {
	d := f.link.database
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.feeds, f.hints)
	return nil
}
