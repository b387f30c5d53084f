package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// empty is a store without keys that counts how often it was opened and closed.
type empty struct {
	store.Store
	opened, closed atomic.Int32
	migrate        error
}

func (e *empty) open(context.Context) (store.Store, error) {
	e.opened.Add(1)
	return e, nil
}

func (e *empty) Migrate(context.Context) error                   { return e.migrate }
func (*empty) MintKey(context.Context) (store.MintKey, error)    { return store.MintKey{1}, nil }
func (*empty) Key(context.Context, store.ID) (*store.Key, error) { return nil, store.ErrNotFound }
func (*empty) RecordUse(context.Context, []store.Use) error      { return nil }
func (e *empty) Close() error                                    { e.closed.Add(1); return nil }
func (*empty) Follow(context.Context) (store.Feed, error)        { return quiet{}, nil }
func (*empty) PublishSigningKey(context.Context, store.SigningKey, time.Duration) error {
	return nil
}

func (*empty) SealAudit(context.Context, int, store.Sealer) (int, error) {
	return 0, nil
}

func (*empty) PruneAudit(context.Context, time.Time, int, store.Sealer) (int, error) {
	return 0, nil
}
func (*empty) PruneSessions(context.Context, time.Time, int) (int, error) { return 0, nil }
func (*empty) Leave(context.Context, store.ID) error                      { return nil }
func (*empty) Prune(context.Context, int) error                           { return nil }
func (*empty) Progress(context.Context, []store.ID, []store.ID) (*store.Progress, error) {
	return &store.Progress{Head: start, Watched: true}, nil
}

// start is the only place in the log of an empty store.
var start = store.Position{Rev: 1, Tag: 1}

// quiet is a feed on which nothing happens.
type quiet struct{}

func (quiet) Join(context.Context, *store.Member) error { return nil }
func (quiet) Close() error                              { return nil }

func (quiet) Renew(_ context.Context, turn *store.Turn) (*store.View, error) {
	return &store.View{Member: true, InLog: turn.Applied == start, Watched: true, Head: start}, nil
}

func (q quiet) Pull(ctx context.Context, turn *store.Turn) (*store.View, error) {
	return q.Renew(ctx, turn)
}

func (quiet) Wait(ctx context.Context, patience time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(patience):
	}
	return nil
}

func configOf(open func(context.Context) (store.Store, error)) engine.Config {
	return engine.Config{
		Open: open,
		Settings: engine.Settings{
			Argon2id:         phc.Params{Memory: 64, Iterations: 1, Parallelism: 1},
			HashMemory:       1 << 20,
			Lease:            10 * time.Second,
			LastUsedInterval: time.Hour,
		},
	}
}

func newEngine(t testing.TB, config engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnEmbeddedStoreThatCannotBeOpenedIsFinal(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk full")
	config := configOf(func(context.Context) (store.Store, error) { return nil, broken })
	config.Embedded = true
	e := newEngine(t, config)
	if err := e.Start(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStoreThatCannotBeMigratedIsClosedAgain(t *testing.T) {
	t.Parallel()
	s := &empty{migrate: errors.New("schema is newer")}
	config := configOf(s.open)
	config.Embedded = true
	e := newEngine(t, config)
	if err := e.Start(t.Context()); !errors.Is(err, s.migrate) {
		t.Errorf("got %v", err)
	}
	if s.closed.Load() != s.opened.Load() {
		t.Errorf("opened %d times, closed %d times", s.opened.Load(), s.closed.Load())
	}
	_ = e.Close()
}

// TestAServerThatIsNotThereIsWaitedFor tries again until it is, and says so twice.
func TestAServerThatIsNotThereIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := new(empty)
	var attempts atomic.Int32
	e := newEngine(t, configOf(func(ctx context.Context) (store.Store, error) {
		if attempts.Add(1) < 3 {
			return nil, errors.New("connection refused")
		}
		return s.open(ctx)
	}))
	var log safeBuffer
	e.Attach(slog.New(slog.NewTextHandler(&log, nil)))

	if _, err := e.Live(); !errors.Is(err, engine.ErrNotReady) {
		t.Errorf("before the start: %v", err)
	}
	_, _, err := e.Admit(t.Context(), "lm_sys_x", "", nil)
	if _, ok := errors.AsType[*verify.UnavailableError](err); !ok || errors.Is(err, verify.ErrInvalidToken) {
		t.Errorf("before the start: %v", err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := e.Live()
	for ; err != nil; l, err = e.Live() { // in the background
		time.Sleep(time.Millisecond)
	}
	<-l.Follower.Ready()
	if _, _, err := e.Admit(t.Context(), "lm_sys_x", "", nil); !errors.Is(err, verify.ReasonUnminted) {
		t.Errorf("with the store open: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if s.opened.Load() != 1 || s.closed.Load() != 1 {
		t.Errorf("opened %d times, closed %d times", s.opened.Load(), s.closed.Load())
	}
	if out := log.String(); strings.Count(out, "cannot be opened") != 1 || strings.Count(out, "store is open") != 1 ||
		strings.Count(out, "ready, requests") != 1 || strings.Count(out, "msg=stopped") != 1 {
		t.Errorf("logged\n%s", out)
	}
	if _, err := e.Live(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestManyConfigurationsStartOneEngine(t *testing.T) {
	t.Parallel()
	s := new(empty)
	e := newEngine(t, configOf(s.open))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := e.Start(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 3 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if s.opened.Load() != 1 || s.closed.Load() != 1 {
		t.Errorf("opened %d times, closed %d times", s.opened.Load(), s.closed.Load())
	}
	if err := e.Start(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a start after the end: %v", err)
	}
}

// TestClosingWhileWaiting gives up on a server that never comes.
func TestClosingWhileWaiting(t *testing.T) {
	t.Parallel()
	tried := make(chan struct{}, 100)
	e := newEngine(t, configOf(func(ctx context.Context) (store.Store, error) {
		tried <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- e.Start(ctx) }()
	<-tried
	cancel()
	if err := <-started; !errors.Is(err, context.Canceled) {
		t.Errorf("a start that was given up: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestTheLogGoesToTheNewestConfiguration attaches a second one, as a reload does,
// and detaches either: the second after a failure, the first after a success.
func TestTheLogGoesToTheNewestConfiguration(t *testing.T) {
	t.Parallel()
	s := new(empty)
	e := newEngine(t, configOf(s.open))
	logger := e.Logger().With(slog.String("a", "b")).WithGroup("g")
	var first, second safeBuffer
	detachFirst := e.Attach(slog.New(slog.NewTextHandler(&first, nil)))
	detachSecond := e.Attach(slog.New(slog.NewTextHandler(&second, nil)))
	logger.Info("one", slog.Int("n", 1))
	detachSecond()
	logger.Info("two")
	e.Attach(slog.New(slog.NewTextHandler(&second, nil)))
	detachFirst()
	logger.Info("three")
	if out := first.String(); !strings.Contains(out, "msg=two") || strings.Count(out, "msg=") != 1 {
		t.Errorf("the first log is\n%s", out)
	}
	if out := second.String(); !strings.Contains(out, "msg=one a=b g.n=1") || !strings.Contains(out, "msg=three") || strings.Count(out, "msg=") != 2 {
		t.Errorf("the second log is\n%s", out)
	}
	_ = e.Close()
}

// TestRequestsDoNotWaitForTheEnd asks while the engine is closing, and the store
// does not let it.
func TestRequestsDoNotWaitForTheEnd(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := &slow{release: release}
	e := newEngine(t, configOf(func(context.Context) (store.Store, error) { return s, nil }))
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	for {
		if _, err := e.Live(); errors.Is(err, store.ErrClosed) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-closed:
		t.Errorf("the engine did not wait for its store at all: %v", err)
	default:
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestTheEndCutsWhatIsInFlightAtOnce closes an engine with a request that would go
// on for ever. It is cut while the engine is live still, so that it is recorded, and
// the store is closed after it.
func TestTheEndCutsWhatIsInFlightAtOnce(t *testing.T) {
	t.Parallel()
	s := new(empty)
	e := newEngine(t, configOf(s.open))
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	live, err := e.Live()
	if err != nil {
		t.Fatal(err)
	}
	var request coherence.Request
	request.Exchange = cut.New(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	_, served := request.Exchange.Wrap(nil)
	handler := make(chan struct{})
	go func() {
		defer close(handler)
		<-served.Context().Done()
		if _, err := e.Live(); err != nil || s.closed.Load() != 0 {
			t.Errorf("it was cut too late: %v, the store was closed %d times", err, s.closed.Load())
		}
		if cause := context.Cause(served.Context()); !errors.Is(cause, cut.ErrLapsed) {
			t.Errorf("it was cut because %v", cause)
		}
		request.Leave()
	}()
	live.InFlight.Enter(&request, &coherence.Claim{ID: store.ID{1}})
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	<-handler
	if n := live.InFlight.Len(); n != 0 {
		t.Errorf("%d are in flight", n)
	}
}

// slow is a store that takes its time to close.
type slow struct {
	empty
	release chan struct{}
}

func (s *slow) Close() error {
	<-s.release
	return nil
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
