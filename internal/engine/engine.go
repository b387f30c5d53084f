// Package engine is what lives: one per store, shared by every handler of a
// process, and untouched by a reload of the configuration.
//
// An engine is made without any input or output, so that a configuration can be
// checked anywhere. Start opens the store. An embedded database that cannot be
// opened is an error; a server that is not there yet is waited for in the
// background, and until then every request is told to come back.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrNotReady says that the store was not opened yet.
var ErrNotReady = errors.New("the store is not open yet")

// Proofs is the shared cache of finished work, closed with the engine.
type Proofs interface {
	verify.Cache
	// Check reads and writes at an address, and has the log say what is wrong.
	Check(ctx context.Context, address string)
	Close() error
}

// Config is what an engine is made of. Open is required.
type Config struct {
	// Open opens the store. It is tried again until it succeeds. A
	// [store.RefusedError] says that waiting does not help.
	Open func(ctx context.Context) (store.Store, error)
	// Embedded says that the store is part of this process: that it cannot be
	// opened is final.
	Embedded bool
	// Proofs makes the shared cache, without connecting to it. Nil for none.
	Proofs func(logger *slog.Logger) (Proofs, error)
	// Secrets authenticate the proofs and the audit log; the first writes, all are
	// accepted.
	Secrets [][]byte
	// AdoptKeys accepts keys that other services have minted. It has no effect without
	// a secret.
	AdoptKeys bool
	// Argon2id are the parameters of new hashes.
	Argon2id phc.Params
	// HashMemory bounds all Argon2id at once, in bytes.
	HashMemory int64
	// Lease is how long this instance trusts its memory unproven, from
	// [store.MinTTL] to [store.MaxTTL].
	Lease time.Duration
	// KeepOnLapse leaves requests in flight alone when the lease runs out.
	KeepOnLapse bool
	// Name is what this instance is called in lists of instances.
	Name string
	// LastUsedInterval is how often last uses are written.
	LastUsedInterval time.Duration
	// AuditRetention is how long audit records are kept.
	AuditRetention time.Duration
	// Meter is told what takes how long, or nil for nobody.
	Meter observe.Meter
}

// Engine is safe for concurrent use.
type Engine struct {
	config Config
	relay  *relay
	logger *slog.Logger
	slots  *verify.Slots
	proofs Proofs // or nil
	live   atomic.Pointer[Live]

	// Alive returns [cut.ErrLapsed] when requests that were let through may not go
	// on: the lease has run out, or the engine is closed. It is a value, so that a
	// request that asks needs none of its own.
	Alive func() error

	mu      sync.Mutex // guards the life cycle
	started bool
	closed  atomic.Bool   // written under mu
	tried   chan struct{} // closed after the first attempt to open the store
	failure atomic.Pointer[Failure]
	cancel  context.CancelFunc
	running sync.WaitGroup // what cancel ends
}

// Live is an engine whose store is open.
type Live struct {
	Store    store.Store
	Minter   *token.Minter
	Verifier *verify.Verifier
	Adopt    *adopt.Finder // nil if keys of other services are refused
	Slots    *verify.Slots
	Recorder *usage.Recorder
	// Audit writes behind what requests leave in the audit log, Sealer chains it.
	Audit  *audit.Writer
	Sealer *audit.Sealer
	// Lease, Flights and Follower make revocations true; see
	// [github.com/lumio-vision/caddy-system-keys/internal/coherence].
	Lease    *coherence.Lease
	Flights  *coherence.Flights
	Follower *coherence.Follower
	Revoker  *coherence.Revoker
	// Signer signs assertions, Published are the public keys of all instances.
	Signer    *assertion.Signer
	Published *assertion.Published

	keeper *audit.Keeper  // looks after the audit log
	pruner *worker.Worker // removes sessions of the System page that are over
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
		tried:  make(chan struct{}),
	}
	e.Alive = e.alive
	if config.Proofs != nil {
		var err error
		if e.proofs, err = config.Proofs(e.logger); err != nil {
			return nil, err
		}
		e.observe(e.proofs)
	}
	return e, nil
}

// observe has the meter told of the calls on a store or on the shared cache.
func (e *Engine) observe(called any) {
	if o, ok := called.(observe.Observed); ok && e.config.Meter != nil {
		o.Observe(e.config.Meter)
	}
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

// Proofs is the shared cache, or nil.
func (e *Engine) Proofs() Proofs { return e.proofs }

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

// Admit is [verify.Verifier.Admit], and unavailable while the store is not
// open.
func (e *Engine) Admit(ctx context.Context, key string, flight *coherence.Flight) (store.ID, *verify.Identity, error) {
	l, err := e.Live()
	if err != nil {
		return store.ID{}, nil, verify.Unavailable(verify.ReasonNotReady, err)
	}
	return l.Verifier.Admit(ctx, key, flight)
}

func (e *Engine) alive() error {
	l := e.live.Load()
	if l == nil || l.Lease.Lapsed() && !e.config.KeepOnLapse {
		return cut.ErrLapsed
	}
	return nil
}
