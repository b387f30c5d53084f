package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrNotReady says that the store was not opened yet.
var ErrNotReady = errors.New("the store is not open yet")

// Proofs is the shared cache of finished work, closed with the engine.
type Proofs interface {
	verify.Proofs
	Close() error
}

// Config is what an engine is made of. Open is required.
type Config struct {
	// Open opens the store. It is tried again until it succeeds.
	Open func(ctx context.Context) (store.Store, error)
	// Embedded says that the store is part of this process: that it cannot be
	// opened is final.
	Embedded bool
	// Proofs makes the shared cache, without connecting to it. Nil for none.
	Proofs func(logger *slog.Logger) (Proofs, error)
	// Secrets authenticate the proofs; the first writes, all are accepted.
	Secrets [][]byte
	// Argon2id are the parameters of new hashes.
	Argon2id phc.Params
	// HashMemory bounds all Argon2id at once, in bytes.
	HashMemory int64
	// Trust is how long a verified key is believed; see [verify.Config].
	Trust time.Duration
	// LastUsedInterval is how often last uses are written.
	LastUsedInterval time.Duration
}

// Engine is safe for concurrent use.
type Engine struct {
	config Config
	relay  *relay
	logger *slog.Logger
	slots  *verify.Slots
	proofs Proofs // or nil
	live   atomic.Pointer[Live]

	mu      sync.Mutex // guards the life cycle
	started bool
	closed  atomic.Bool   // written under mu
	opened  chan struct{} // closed when the store is open
	cancel  context.CancelFunc
	done    chan struct{}
}

// Live is an engine whose store is open.
type Live struct {
	Store    store.Store
	Minter   *token.Minter
	Verifier *verify.Verifier
	Slots    *verify.Slots
	Recorder *usage.Recorder
}

// New makes an engine that does nothing until it is started. The error is that
// of [Config.Proofs].
func New(config Config) (*Engine, error) {
	r := newRelay()
	e := &Engine{
		config: config,
		relay:  r,
		logger: slog.New(r),
		slots:  verify.NewSlots(config.Argon2id, config.HashMemory),
		opened: make(chan struct{}),
		done:   make(chan struct{}),
	}
	if config.Proofs != nil {
		var err error
		if e.proofs, err = config.Proofs(e.logger); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Attach sends what the engine logs from now on to the logger, until detach is
// called; then to the newest one that is still attached. The engine outlives the
// configuration that made it, and a configuration that failed to load must not
// keep the log.
func (e *Engine) Attach(logger *slog.Logger) (detach func()) {
	return e.relay.attach(logger.Handler())
}

// Logger is what the engine and its parts log to: wherever the last logger that
// was set leads.
func (e *Engine) Logger() *slog.Logger { return e.logger }

// Live returns the parts of an open engine, or [ErrNotReady] or
// [store.ErrClosed].
func (e *Engine) Live() (*Live, error) {
	if l := e.live.Load(); l != nil {
		return l, nil
	}
	if e.closed.Load() {
		return nil, store.ErrClosed
	}
	return nil, ErrNotReady
}

// Verify is [verify.Verifier.Verify], and unavailable while the store is not
// open.
func (e *Engine) Verify(ctx context.Context, key string) (*verify.Identity, error) {
	if l := e.live.Load(); l != nil {
		return l.Verifier.Verify(ctx, key)
	}
	_, err := e.Live()
	return nil, &verify.UnavailableError{RetryAfter: time.Second, Err: err}
}

// closeTimeout bounds how long [Engine.Close] waits for the store, which waits
// for the statements that are running.
const closeTimeout = 5 * time.Second

// Close writes the last uses that are left and closes the store, after the
// lookups that are running. It can be called more than once, and before Start.
// A store that hangs does not hold it for more than some seconds.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Swap(true) {
		return nil
	}
	if e.started {
		e.cancel()
		<-e.done
	}
	var errs []error
	if l := e.live.Swap(nil); l != nil {
		l.Verifier.Close()
		if err := l.Recorder.Close(context.Background()); err != nil {
			errs = append(errs, fmt.Errorf("write last uses: %w", err))
		}
		if err := closeStore(l.Store); err != nil {
			errs = append(errs, fmt.Errorf("close store: %w", err))
		}
	}
	if e.proofs != nil {
		if err := e.proofs.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close proof cache: %w", err))
		}
	}
	return errors.Join(errs...)
}

func closeStore(s store.Store) error {
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()
	select {
	case err := <-closed:
		return err
	case <-patience.C:
		return errors.New("statements are still running, it is left to them")
	}
}
