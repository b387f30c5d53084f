// Package engine wires the parts that verify and revoke the keys of one store. All handlers
// of a process share one engine per store. A reload of the configuration leaves it alone, as long
// as the settings are the same.
//
// New makes an engine without any input or output, so that a configuration can be checked
// anywhere. Start opens the store. If an embedded database cannot be opened, Start fails.
// If a database server cannot be reached, the engine waits for it in the background, and
// every request gets 503 until then.
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
	"github.com/lumio-vision/caddy-system-keys/internal/expiry"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrNotReady says that the store has not been opened yet.
var ErrNotReady = errors.New("the store is not open yet")

// Settings are the part of a [Config] that a user chooses.
type Settings struct {
	// Secrets authenticate the proofs and the audit log. The first is used for
	// writing, all are accepted.
	Secrets [][]byte
	// AdoptKeys accepts keys that other services have minted. It has no effect without
	// a secret.
	AdoptKeys bool
	// Argon2id are the parameters of new hashes.
	Argon2id phc.Params
	// HashMemory bounds the memory of all Argon2id computations at once, in bytes.
	HashMemory int64
	// KeyEntries and KeyMemory bound the verified keys in memory, in number and in bytes.
	// Zero means the defaults of the verifier.
	KeyEntries int
	KeyMemory  int64
	// Lease is how long this instance trusts its memory without hearing from the
	// store, from [store.MinTTL] to [store.MaxTTL].
	Lease time.Duration
	// KeepOnLapse leaves requests in flight alone when the lease runs out.
	KeepOnLapse bool
	// LastUsedInterval is how often last uses are written.
	LastUsedInterval time.Duration
	// AuditRetention is how long audit records are kept.
	AuditRetention time.Duration
	// ExpiredRetention is how long expired keys are kept.
	ExpiredRetention time.Duration
}

// Config says how to make an engine. Open is required.
type Config struct {
	Settings
	// Open opens the store. The engine calls it again until it succeeds. With a
	// [store.RefusedError] it says that waiting does not help, and Start fails.
	Open func(ctx context.Context) (store.Store, error)
	// Embedded says that the store is part of this process. If it cannot be opened,
	// waiting does not help.
	Embedded bool
	// Proofs makes the shared cache, without connecting to it. Nil for none.
	Proofs func(logger *slog.Logger) (verify.Cache, error)
	// Name is the name of this instance in lists of instances. Where says where the store
	// is. It is for the log, and must not have a secret.
	Name, Where string
	// Meter measures how long calls and verifications take. Nil for no measurement.
	Meter observe.Meter
}

// Engine is safe for concurrent use. Its life is: [New], [Engine.Start], [Engine.Drain],
// [Engine.Close]. Requests ask it at any time, and get 503 before the store is open and after
// the end.
type Engine struct {
	config Config
	relay  *relay
	logger *slog.Logger
	proofs verify.Cache // or nil
	live   atomic.Pointer[Live]

	// Alive returns [cut.ErrLapsed] if requests in flight may not go on: the lease has
	// run out, or the engine is closed. It is a function value, so that a request need
	// not allocate one.
	Alive func() error

	mu      sync.Mutex // guards started, and that Close runs once
	started bool
	closed  atomic.Bool   // written under mu
	tried   chan struct{} // closed after the first attempt to open the store
	failure atomic.Pointer[Failure]
	cancel  context.CancelFunc
	running sync.WaitGroup // the goroutines that cancel ends
}

// Live has the parts of an engine whose store is open. They are made together and end together,
// so whoever has a Live has all of them. It is immutable.
type Live struct {
	Store    store.Store
	Minter   *token.Minter
	Verifier *verify.Verifier
	Adopt    *adopt.Finder // nil without adopt_keys
	Slots    *hashing.Slots
	Recorder *usage.Recorder
	// Audit writes audit records of requests behind. Sealer chains records.
	Audit  *audit.Writer
	Sealer *audit.Sealer
	// Lease, InFlight and Follower make revocations true; see
	// [github.com/lumio-vision/caddy-system-keys/internal/coherence].
	Lease    *coherence.Lease
	InFlight *coherence.InFlight
	Follower *coherence.Follower
	Revoker  *coherence.Revoker
	// Signer signs assertions. Published has the public keys of all instances.
	Signer    *assertion.Signer
	Published *assertion.Published

	// Expiry deletes keys some time after their expiry.
	Expiry *expiry.Keeper

	keeper *audit.Keeper  // seals audit records, and deletes old ones
	pruner *worker.Worker // deletes sessions of the System page that have ended
}

// New makes an engine that does nothing until it is started. It returns the error of
// [Config.Proofs].
func New(config Config) (*Engine, error) {
	r := newRelay()
	e := &Engine{
		config: config,
		relay:  r,
		logger: slog.New(r),
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

// observe lets the meter measure the calls on a store or on the proof cache. A part that cannot
// be measured is left alone.
func (e *Engine) observe(part any) {
	if o, ok := part.(observe.Observed); ok && e.config.Meter != nil {
		o.Observe(e.config.Meter)
	}
}

// Attach sends the engine's log to the logger until detach is called. After that, the log
// goes to the newest logger that is still attached. The engine outlives the configuration
// that made it, and a configuration that failed to load must not keep the log.
func (e *Engine) Attach(logger *slog.Logger) (detach func()) {
	return e.relay.attach(logger.Handler())
}

// Logger returns the logger of the engine and its parts. It leads to the newest attached
// logger.
func (e *Engine) Logger() *slog.Logger { return e.logger }

// Proofs returns the proof cache, or nil.
func (e *Engine) Proofs() verify.Cache { return e.proofs }

// Live returns the parts of an open engine. Before the store is open it returns
// [ErrNotReady], and after Close [store.ErrClosed].
func (e *Engine) Live() (*Live, error) {
	if l := e.live.Load(); l != nil {
		return l, nil
	}
	if e.closed.Load() {
		return nil, store.ErrClosed
	}
	return nil, ErrNotReady
}

// Admit calls [verify.Verifier.Admit]. While the store is not open, it returns a
// [verify.UnavailableError].
func (e *Engine) Admit(ctx context.Context, key, client string, inFlight *coherence.Request) (store.ID, *verify.Identity, error) {
	l, err := e.Live()
	if err != nil {
		return store.ID{}, nil, verify.Unavailable(verify.ReasonNotReady, err)
	}
	return l.Verifier.Admit(ctx, key, client, inFlight)
}

// alive is the function in Alive.
//
// It is asked again and again while a request is in flight, so it takes no lock.
func (e *Engine) alive() error {
	l := e.live.Load()
	if l == nil || l.Lease.Lapsed() && !e.config.KeepOnLapse {
		return cut.ErrLapsed
	}
	return nil
}
