package coherence

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Store is what a follower asks of a [store.Store].
type Store interface {
	Follow(ctx context.Context) (store.Feed, error)
	Key(ctx context.Context, id store.ID) (*store.Key, error)
	Barrier(ctx context.Context) (rev int64, err error)
	Progress(ctx context.Context, key store.ID) (*store.Progress, error)
	Leave(ctx context.Context, member store.ID) error
	Reap(ctx context.Context, member store.ID, beat int64) (bool, error)
	Prune(ctx context.Context, keep int) error
}

// Cache is the memory that the lease lets an instance trust.
type Cache interface {
	// Forget drops what is remembered of a key, and keeps what was read of it
	// before from being remembered later.
	Forget(id store.ID)
	// ForgetAll does so for all keys.
	ForgetAll()
}

// Config is what a [Follower] is made of. All fields but the last two are
// required.
type Config struct {
	Store   Store
	Cache   Cache
	Lease   *Lease
	Flights *Flights
	// Name is what the instance is called in lists of members.
	Name   string
	Logger *slog.Logger
	Now    func() time.Time
	// KeepOnLapse leaves the requests in flight alone when the lease runs out.
	KeepOnLapse bool
	// Spread makes an interval somewhat longer or shorter, so that instances do not
	// act in step. By a random fifth at most if it is nil.
	Spread func(time.Duration) time.Duration
}

// Follower is an instance: it follows the log in one goroutine, and removes dead
// members in another. It is safe for concurrent use.
type Follower struct {
	config Config
	cancel context.CancelFunc
	ended  sync.WaitGroup
	ready  chan struct{} // closed at the first lease
	once   sync.Once

	history *history
	reaper  *reaper

	// Of the loop alone.
	joined    bool
	joining   store.ID    // tried last; zero once joined
	cuts      []store.Cut // not reported yet
	unwatched bool        // said so
	unnamed   sync.Once   // said so
	patience  time.Duration

	mu    sync.Mutex // guards place, which is written by the loop
	place Place
}

// Place says where an instance is.
type Place struct {
	// Member is the id under which it joined; zero before.
	Member store.ID
	// Applied is the place in the log up to which it has applied everything.
	Applied store.Position
	// Turned is when the last turn began that was answered.
	Turned time.Time
}

// Start begins to follow. It returns at once; see [Follower.Ready].
func Start(config Config) *Follower {
	if config.Spread == nil {
		config.Spread = spread
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Follower{config: config, cancel: cancel, ready: make(chan struct{}), history: newHistory(config.Lease.ttl)}
	f.reaper = newReaper(config.Store, config.Now, f.history)
	f.reaper.spread = config.Spread
	if !config.KeepOnLapse {
		config.Lease.watch(f.lapse)
	}
	f.ended.Go(func() { f.run(ctx) })
	f.ended.Go(func() { f.reaper.run(ctx, config.Lease.ttl/4, config.Logger) })
	return f
}

// Ready is closed when the instance has its first lease.
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// Place says where the instance is now.
func (f *Follower) Place() Place {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.place
}

// leaveTimeout bounds the goodbye.
const leaveTimeout = 2 * time.Second

// Close ends the lease for good, cuts the requests that are in flight, which no
// revocation would find any more, and removes the instance from the members,
// which is the strongest acknowledgement there is. The error is that of the
// removal; if it fails, others remove the member after a ttl.
func (f *Follower) Close() error {
	f.config.Lease.close()
	f.cancel()
	f.ended.Wait()
	f.config.Flights.CutAll(cut.ErrLapsed)
	member := f.Place().Member
	if member == (store.ID{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	return f.config.Store.Leave(ctx, member)
}

func (f *Follower) lapse() {
	if n := f.config.Flights.CutAll(cut.ErrLapsed); n > 0 {
		f.config.Logger.Warn("the lease has run out, requests in flight were cut", slog.Int("requests", n))
	}
}

// Bounds of the loop.
const (
	maxInterval = 2 * time.Second // between turns
	minPatience = 250 * time.Millisecond
	minPause    = 20 * time.Millisecond // after a failure
	maxPause    = time.Second
	// turnLimit is how many changes are asked for at once.
	turnLimit = 1000
)

func (f *Follower) interval() time.Duration { return min(maxInterval, f.config.Lease.ttl/5) }

// leastPatience is how long an answer is waited for, unless the link is slow.
func (f *Follower) leastPatience() time.Duration { return max(f.interval(), minPatience) }

// run opens one session after the other until ctx ends.
func (f *Follower) run(ctx context.Context) {
	pause := minPause
	down := false
	for ctx.Err() == nil {
		turns := 0
		err := f.session(ctx, &turns)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, store.ErrReplaced) {
			// Others may have revoked keys in the one that is there now.
			f.config.Lease.drop()
		}
		if turns > 0 {
			pause, down = minPause, false
		}
		if !down {
			down = true
			f.config.Logger.Warn("changes of keys cannot be followed, trying again", slog.Any("error", err))
		}
		if errors.Is(err, context.DeadlineExceeded) {
			f.patience = min(2*f.patience, f.config.Lease.ttl/2) // the link may be slow
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.config.Spread(pause)):
		}
		pause = min(2*pause, maxPause)
	}
}

// session follows the log on one feed until something fails. It counts the turns
// that were answered.
func (f *Follower) session(ctx context.Context, turns *int) error {
	opening, cancel := context.WithTimeout(ctx, max(f.config.Lease.ttl/2, time.Second))
	feed, err := f.config.Store.Follow(opening)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = feed.Close() }() // what fails here was broken before
	f.patience = max(f.patience, f.leastPatience())
	for ctx.Err() == nil {
		again, err := f.renew(ctx, feed)
		if err != nil {
			return err
		}
		*turns++
		if again {
			continue
		}
		if err := f.wait(ctx, feed); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// wait returns when it is time for the next turn. Changes that come meanwhile are
// pulled, which is quicker than a turn, and make the turn due: it acknowledges
// them.
func (f *Follower) wait(ctx context.Context, feed store.Feed) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		select {
		case <-f.config.Lease.wanted:
			cancel()
		case <-waiting.Done():
		}
	}()
	began := f.config.Now()
	patience := f.config.Spread(f.interval())
	err := feed.Wait(waiting, patience)
	cancel()
	<-woken
	if err != nil || ctx.Err() != nil || f.config.Now().Sub(began) >= patience {
		return err
	}
	return f.pull(ctx, feed)
}

// newID makes a random id, version 4.
func newID() (id store.ID) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
