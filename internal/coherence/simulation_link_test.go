package coherence_test

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
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
	err = l.call(ctx, "key", func() error {
		row, ok := l.database.row(id)
		if !ok {
			return store.ErrNotFound
		}
		key = &row
		return nil
	})
	return key, err
}

func (l *link) DeleteKey(ctx context.Context, id store.ID, write *store.Write) (key *store.Key, err error) {
	l.mu.Lock()
	pause := time.Duration(l.random("delete").Int64N(int64(3 * time.Millisecond)))
	l.mu.Unlock()
	err = l.call(ctx, "delete", func() (err error) {
		if key, err = l.database.delete(id, pause); err == nil {
			_, _ = write.Records(key)
		}
		return err
	})
	return key, err
}

func (l *link) Barrier(ctx context.Context) (rev int64, err error) {
	err = l.call(ctx, "barrier", func() error {
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

func (l *link) Progress(ctx context.Context, key store.ID) (p *store.Progress, err error) {
	err = l.call(ctx, "progress", func() error {
		p = l.database.progress(key)
		return nil
	})
	return p, err
}

func (l *link) Leave(ctx context.Context, member store.ID) error {
	return l.call(ctx, "leave", func() error {
		l.database.mu.Lock()
		defer l.database.mu.Unlock()
		delete(l.database.members, member)
		return nil
	})
}

func (l *link) Reap(ctx context.Context, member store.ID, beat int64) (reaped bool, err error) {
	err = l.call(ctx, "reap", func() error {
		l.database.mu.Lock()
		defer l.database.mu.Unlock()
		if m, ok := l.database.members[member]; ok && m.Beat == beat {
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
		row.Applied, row.Beat, row.JoinedAt = 0, d.random.Int64(), time.Now()
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
	return v, err
}

func (f *linkFeed) Pull(ctx context.Context, turn *store.Turn) (v *store.View, err error) {
	sent := *turn
	err = f.link.call(ctx, "pull", func() error {
		f.link.database.mu.Lock()
		defer f.link.database.mu.Unlock()
		v = f.link.database.view(&sent)
		return nil
	})
	return v, err
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
