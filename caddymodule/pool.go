package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// engines holds one engine for each set of settings that a running
// configuration has. During a reload two configurations share one.
var engines = caddy.NewUsagePool()

// poolKey is the digest of resolved settings. It is what the pool is keyed by:
// with the settings as written a changed secret file would go unnoticed, and
// with the resolved ones the secrets would lie about in memory and in panics.
type poolKey [sha256.Size]byte

// pooled is an engine in the pool. It prints as its name: the pool's panics
// print what they hold.
type pooled struct{ engine *engine.Engine }

// Destruct implements [caddy.Destructor]. The requests that an earlier
// configuration let through may still be running when it is unloaded: the engine
// goes on in the background until the last has ended, so that they can be cut.
// At the end of the process Caddy has waited for them already.
func (p pooled) Destruct() error { return retired.retire(p.engine) }

// GoString keeps the settings, secrets among them, out of panics.
func (pooled) GoString() string { return "system_keys engine" }

// String keeps the settings out of every other text.
func (p pooled) String() string { return p.GoString() }

// acquire takes a reference on the engine for these settings, and makes it if
// there is none.
func (a *App) acquire(s *settings) (*engine.Engine, error) {
	key := s.key()
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		e, err := newEngine(s)
		if err != nil {
			return nil, err
		}
		return pooled{e}, nil
	})
	if err != nil {
		return nil, err
	}
	e := value.(pooled).engine
	detach := e.Attach(a.logger)
	a.holding.Lock()
	defer a.holding.Unlock()
	a.release = func() error {
		_, err := engines.Delete(key)
		detach() // what the end of the engine has to say is logged still
		return err
	}
	return e, nil
}

func (s *settings) key() poolKey {
	b, err := json.Marshal(s)
	if err != nil { // strings and numbers always encode
		panic(err)
	}
	return sha256.Sum256(b)
}

// giveBack drops the reference, once for each that was taken.
func (a *App) giveBack() error {
	a.holding.Lock()
	defer a.holding.Unlock()
	if a.release == nil {
		return nil
	}
	release := a.release
	a.release = nil
	return release()
}

// newEngine makes an engine without any input or output.
func newEngine(s *settings) (e *engine.Engine, err error) {
	config := engine.Config{
		Open: func(ctx context.Context) (store.Store, error) {
			return s.Store.Open(ctx, open.Options{Logger: e.Logger()})
		},
		Embedded:         s.Store.Embedded(),
		Argon2id:         s.Argon2id,
		HashMemory:       s.HashMemory,
		Lease:            s.Lease,
		KeepOnLapse:      s.OnLapse == lapseKeep,
		AdoptKeys:        s.AdoptKeys,
		Name:             instanceName(),
		LastUsedInterval: s.LastUsedInterval,
		AuditRetention:   s.AuditRetention,
		Meter:            measured,
	}
	for _, secret := range s.Secrets {
		config.Secrets = append(config.Secrets, []byte(secret))
	}
	if len(s.Redis) > 0 {
		config.Proofs = func(logger *slog.Logger) (engine.Proofs, error) {
			return redis.New(s.Redis, redis.Options{Logger: logger})
		}
	}
	e, err = engine.New(config)
	return e, err
}

// live returns the parts of the engine, once its store is open.
func (a *App) live(ctx context.Context) (*engine.Live, error) {
	e, err := a.running(ctx)
	if err != nil {
		return nil, err
	}
	return e.Live()
}

// retired are the engines that no configuration holds any more, and that have
// requests in flight.
var retired = retirement{engines: make(map[*engine.Engine]struct{})}

type retirement struct {
	mu      sync.Mutex
	engines map[*engine.Engine]struct{}
}

// linger is how long an engine that was replaced stays: requests that came just
// before may not have reached it yet.
const linger = 2 * time.Second

// retire closes the engine, at once or when its last request has ended.
func (t *retirement) retire(e *engine.Engine) error {
	if caddy.Exiting() {
		return errors.Join(e.Close(), t.closeAll())
	}
	if e.Idle() && !replaced() {
		return e.Close()
	}
	t.mu.Lock()
	t.engines[e] = struct{}{}
	t.mu.Unlock()
	go func() {
		if replaced() {
			time.Sleep(linger)
		}
		e.Drain(context.Background())
		if err := e.Close(); err != nil {
			e.Logger().Error("an engine was not closed cleanly", slog.Any("error", err))
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.engines, e)
	}()
	return nil
}

// closeAll ends what is left when the process ends. Caddy has waited for
// `grace_period` by then, so what is in flight still is cut.
func (t *retirement) closeAll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := make(chan error, len(t.engines))
	for e := range t.engines {
		go func() { errs <- e.Close() }()
	}
	all := make([]error, 0, len(t.engines))
	for range t.engines {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// replaced reports whether there is another engine, of a newer configuration.
func replaced() bool {
	n := 0
	engines.Range(func(any, any) bool {
		n++
		return true
	})
	return n > 0
}

// Totals are figures of all engines of this process.
type Totals struct {
	// Engines counts the live ones, References the configurations that hold one.
	Engines, References int
	verify.Stats
}

// Stats adds the figures of all engines up.
func Stats() Totals {
	live := make(map[any]*engine.Engine)
	engines.Range(func(key, value any) bool {
		live[key] = value.(pooled).engine
		return true
	})
	totals := Totals{Engines: len(live)}
	for key, e := range live {
		if n, ok := engines.References(key); ok {
			totals.References += n
		}
		if l, err := e.Live(); err == nil {
			s := l.Verifier.Stats()
			totals.RowReads += s.RowReads
			totals.Argon2Runs += s.Argon2Runs
			totals.Entries += s.Entries
			totals.SearchRuns += s.SearchRuns
		}
	}
	return totals
}
