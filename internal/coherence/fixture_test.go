package coherence

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// testClock is a machine's two clocks, which move when a test says so.
type testClock struct {
	mu   sync.Mutex
	mono time.Duration
	wall map[time.Duration]time.Duration // by the reading of mono: what it shows beside
	off  time.Duration
}

var testEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newTestClock() *testClock { return &testClock{wall: make(map[time.Duration]time.Duration)} }

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall[c.mono] = c.mono + c.off
	return testEpoch.Add(c.mono)
}

func (c *testClock) split(t time.Time) (mono, wall time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mono = t.Sub(testEpoch)
	return mono, c.wall[mono]
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mono += d
}

// step moves the wall clock alone; a nanosecond passes, so that readings differ.
func (c *testClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mono++
	c.off += d
}

const testTTL = 10 * time.Second

// forgotten is a memory that notes what it is told to forget.
type forgotten struct {
	keys   []store.ID
	all    int
	during func() // called first
}

func (f *forgotten) Forget(id store.ID) {
	if f.during != nil {
		f.during()
	}
	f.keys = append(f.keys, id)
}

func (f *forgotten) ForgetAll() {
	if f.during != nil {
		f.during()
	}
	f.all++
}

// stub is a store and a feed whose answers a test writes. What it does not
// write says that nothing is there.
type stub struct {
	join     func(*store.Member) error
	renew    func(*store.Turn) (*store.View, error)
	pull     func(*store.Turn) (*store.View, error)
	key      func(store.ID) (*store.Key, error)
	progress func() (*store.Progress, error)
	barriers int
	reaped   []store.Member // id and heartbeat
	pruned   atomic.Int64
	left     []store.ID
}

func (s *stub) Follow(context.Context) (store.Feed, error) { return s, nil }

func (s *stub) Join(_ context.Context, m *store.Member) error {
	if s.join == nil {
		return nil
	}
	return s.join(m)
}

func (s *stub) Renew(_ context.Context, t *store.Turn) (*store.View, error) { return s.renew(t) }
func (s *stub) Pull(_ context.Context, t *store.Turn) (*store.View, error)  { return s.pull(t) }

func (s *stub) Wait(ctx context.Context, patience time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(patience):
	}
	return nil
}

func (s *stub) Close() error { return nil }

func (s *stub) Key(_ context.Context, id store.ID) (*store.Key, error) {
	if s.key == nil {
		return nil, store.ErrNotFound
	}
	return s.key(id)
}

func (s *stub) Barrier(context.Context) (int64, error) {
	s.barriers++
	return 0, nil
}

func (s *stub) Progress(context.Context, []store.ID, []store.ID) (*store.Progress, error) {
	return s.progress()
}

func (s *stub) Leave(_ context.Context, id store.ID) error {
	s.left = append(s.left, id)
	return nil
}

func (s *stub) Reap(_ context.Context, id store.ID, heartbeat int64) (bool, error) {
	s.reaped = append(s.reaped, store.Member{ID: id, Heartbeat: heartbeat})
	return true, nil
}

func (s *stub) Prune(context.Context, int) error {
	s.pruned.Add(1)
	return nil
}

// fixture is an instance whose turns a test takes one by one.
type fixture struct {
	*Follower
	clock *testClock
	stub  *stub
	cache *forgotten
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	clock, s, cache := newTestClock(), new(stub), new(forgotten)
	lease := NewLeaseOn(testTTL, clock.now, clock.split)
	t.Cleanup(lease.close)
	f := &Follower{
		config: Config{
			Store: s, Forget: cache.Forget, ForgetAll: cache.ForgetAll, Lease: lease, InFlight: NewInFlight(clock.now), Name: "test",
			Logger: slog.New(slog.DiscardHandler), Now: clock.now, Spread: func(d time.Duration) time.Duration { return d },
		},
		cancel: func() {}, ready: make(chan struct{}), history: newHistory(testTTL), callTimeout: time.Second,
	}
	return &fixture{Follower: f, clock: clock, stub: s, cache: cache}
}

// at is the place of a revision in the only history.
func at(rev int64) store.Position { return store.Position{Rev: rev, Tag: 100 + rev} }

// calm is the view of a member for whom there is nothing new.
func calm(rev int64) *store.View {
	return &store.View{Member: true, InLog: true, Watched: true, Head: at(rev), Origin: "one"}
}

// state is what the instance may do now.
func (f *fixture) state() LeaseState { return f.config.Lease.State(f.clock.now()) }

// mustRenew takes a turn that has to work, with the view as its answer.
func (f *fixture) mustRenew(t *testing.T, view *store.View) (again bool) {
	t.Helper()
	f.stub.renew = func(*store.Turn) (*store.View, error) { return view, nil }
	again, err := f.renew(t.Context(), f.stub)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// settle brings the instance to a lease at the revision.
func (f *fixture) settle(t *testing.T, rev int64) {
	t.Helper()
	view := calm(rev)
	view.InLog = false // as for one that has just started
	f.mustRenew(t, view)
	if f.state() != LeaseCached {
		t.Fatalf("after a turn at the head the lease state is %v", f.state())
	}
}

// cutRequest is a request that tells why it was cut.
type cutRequest struct {
	*cut.Exchange
	ctx context.Context //nolint:containedctx // it is what a cut ends
}

func newCutRequest() *cutRequest {
	exchange := cut.New(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	_, r := exchange.Wrap(nil)
	return &cutRequest{exchange, r.Context()}
}

func (r *cutRequest) reason() error { return context.Cause(r.ctx) }

// testID makes an id that ends in the byte.
func testID(n byte) (id store.ID) {
	id[15] = n
	return id
}

// rowOf is a key as the store has it.
func rowOf(n byte, permissions ...string) *store.Key {
	return &store.Key{ID: testID(n), Hash: "hash", Permissions: permissions}
}

// enter lets a request in with the row's claim.
func (f *fixture) enter(row *store.Key) *cutRequest {
	r := newCutRequest()
	f.config.InFlight.Enter(&Request{Exchange: r.Exchange}, ClaimOf(row))
	return r
}
