package coherence

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Store is the part of a [store.Store] that this package uses.
type Store interface {
	Follow(ctx context.Context) (store.Feed, error)
	Key(ctx context.Context, id store.ID) (*store.Key, error)
	Barrier(ctx context.Context) (rev int64, err error)
	Progress(ctx context.Context, keys, awaited []store.ID) (*store.Progress, error)
	Leave(ctx context.Context, member store.ID) error
	Reap(ctx context.Context, member store.ID, heartbeat int64) (bool, error)
	Prune(ctx context.Context, keep int) error
}

// Config is the configuration of a [Follower]. All fields up to Now are required.
type Config struct {
	Store Store
	// Forget drops a key from the memory that the lease lets an instance trust. A row of the
	// key that was read before must not be remembered later. ForgetAll does so for all keys.
	Forget    func(store.ID)
	ForgetAll func()

	Lease    *Lease
	InFlight *InFlight
	// Name names the instance in lists of members.
	Name   string
	Logger *slog.Logger
	Now    func() time.Time
	// KeepOnLapse leaves the requests in flight alone when the lease runs out.
	KeepOnLapse bool
	// Unsealed is called when there are audit records to seal, unless it is nil. It must not
	// block.
	Unsealed func()
	// ExpiredBefore returns the time before which a key must have expired, and Expired is
	// called when there are such keys. It must not block. Both are nil, or none is.
	ExpiredBefore func() time.Time
	Expired       func()
	// Spread makes an interval a little longer or shorter, so that instances do not act in
	// step. By default the change is random, and a fifth at most.
	Spread func(time.Duration) time.Duration
}

// Follower makes this process an instance. It follows the log in one goroutine. It is safe for
// concurrent use.
type Follower struct {
	config    Config
	cancel    context.CancelFunc
	ended     sync.WaitGroup
	ready     chan struct{} // closed at the first lease
	readyOnce sync.Once

	history *history

	// These fields belong to the loop alone.
	reaper          reaper
	pruned          int64 // the head of the log when it was pruned last
	joined          bool
	joining         store.ID      // the id of the last attempt to join; zero once joined
	cuts            []store.Cut   // not reported to the database yet
	triggersMissing bool          // and logged
	unfollowed      bool          // as in the last view, and applied
	warnOrigin      sync.Once     // logs that the server does not name its history
	callTimeout     time.Duration // longer while the link is slow

	outage outage

	mu    sync.Mutex // guards place, which the loop writes
	place Place
}

// Place is the place of an instance in the log.
type Place struct {
	// Member is the id of the instance's row. It is zero before the first attempt to join.
	Member store.ID
	// Applied is the place in the log up to which the instance has applied everything.
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
	config.Lease.callOnLapse(f.lapsed)
	f.ended.Go(func() { f.run(ctx) })
	return f
}

// Ready is closed when the instance has its first lease.
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// Place returns the instance's place in the log now.
func (f *Follower) Place() Place {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.place
}

// leaveTimeout bounds the removal of the instance's own row.
const leaveTimeout = 2 * time.Second

// Close ends the lease for good. It cuts the requests in flight, because no revocation would
// find them any more. Then it removes the instance from the members, which is the strongest
// acknowledgement there is. The error is that of the removal. If that fails, other instances
// remove the member after a ttl.
func (f *Follower) Close() error {
	f.config.Lease.close()
	f.cancel()
	f.ended.Wait()
	f.config.InFlight.CutAll(cut.ErrLapsed)
	member := f.Place().Member
	if member == (store.ID{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	return f.config.Store.Leave(ctx, member)
}

// Bounds of the loop.
const (
	// The bounds of the timeout of a call on the database, unless the link is slow. It is how
	// a link is found out that is dead.
	maxTimeout = 2 * time.Second
	minTimeout = 250 * time.Millisecond
	// The pause after a failure doubles from minPause to maxPause.
	minPause = 20 * time.Millisecond
	maxPause = time.Second
	// turnLimit is how many changes one turn reads.
	turnLimit = 1000
)

// interval is the time between two turns. A lease survives some turns that fail. A turn is all
// that an instance at rest costs the database. Notifications bring changes sooner, and
// without them a revocation still waits for no longer than a lease.
func (f *Follower) interval() time.Duration { return f.config.Lease.ttl / 5 }

// baseTimeout bounds a call on the database, unless the link is slow.
func (f *Follower) baseTimeout() time.Duration {
	return min(max(f.interval(), minTimeout), maxTimeout)
}

// run opens one session after the other until ctx ends. It never gives up. The lease runs out by
// itself meanwhile, so an outage that lasts needs no decision here.
func (f *Follower) run(ctx context.Context) {
	pause := minPause
	for ctx.Err() == nil {
		turns := 0
		err := f.session(ctx, &turns)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, store.ErrReplaced) {
			// Others may have revoked keys in the database that is there now.
			f.config.Lease.drop()
		}
		if turns > 0 {
			pause = minPause
		}
		f.failed(err)
		if errors.Is(err, context.DeadlineExceeded) {
			f.callTimeout = min(2*f.callTimeout, f.config.Lease.ttl/2) // the link may be slow
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.config.Spread(pause)):
		}
		pause = min(2*pause, maxPause)
	}
}

// session follows the log on one feed until something fails. It counts the turns that the
// database has answered.
func (f *Follower) session(ctx context.Context, turns *int) error {
	opening, cancel := context.WithTimeout(ctx, max(f.config.Lease.ttl/2, time.Second))
	feed, err := f.config.Store.Follow(opening)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = feed.Close() }() // if it fails, the feed was broken before
	// A link that was slow in the last session keeps its longer timeout.
	f.callTimeout = max(f.callTimeout, f.baseTimeout())
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
	return errors.Join(ctx.Err(), f.acknowledge(ctx, feed))
}

// acknowledge takes a last turn if there are requests that were cut and are not reported. A
// process that ends when its last request does would leave without saying what it has cut, and
// count as one that has not answered.
func (f *Follower) acknowledge(ctx context.Context, feed store.Feed) error {
	if len(f.cuts) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	_, err := feed.Renew(ctx, f.newTurn())
	return err
}

// wait returns when it is time for the next turn. If a change comes before, wait pulls it,
// which is quicker than a turn. The next turn is due then, because it acknowledges the
// change.
func (f *Follower) wait(ctx context.Context, feed store.Feed) error {
	// A request for a renewal ends the wait early: see [Lease.Want].
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
	interval := f.config.Spread(f.interval())
	err := feed.Wait(waiting, interval)
	cancel()
	<-woken
	if err != nil || ctx.Err() != nil || f.config.Now().Sub(began) >= interval {
		return err
	}
	return f.pull(ctx, feed)
}
