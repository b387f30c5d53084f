package app

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
)

// engines holds one engine for each set of settings that a running configuration has.
// During a reload two configurations share one.
var engines = caddy.NewUsagePool()

// poolKey is the digest of resolved settings. The settings as written would not do: a
// changed secret file would go unnoticed. The resolved settings would not do either: the
// pool keeps its keys in memory and prints them in panics.
type poolKey [sha256.Size]byte

// key returns the key of these settings in the pool.
func (s *settings) key() poolKey {
	b, err := json.Marshal(s)
	if err != nil { // strings and numbers always encode
		panic(err)
	}
	return sha256.Sum256(b)
}

// pooled is an engine in the pool. The pool prints its values in panics, so a pooled
// engine prints as its name and not as its settings, which have secrets.
type pooled struct{ engine *engine.Engine }

// Destruct implements [caddy.Destructor].
func (p pooled) Destruct() error { return retire(p.engine) }

// GoString implements [fmt.GoStringer].
func (pooled) GoString() string { return "system_keys engine" }

// String implements [fmt.Stringer].
func (p pooled) String() string { return p.GoString() }

// acquire takes a reference on the engine for these settings, and makes the engine if
// there is none. Release gives the reference back.
func acquire(s *settings, logger *slog.Logger) (e *engine.Engine, release func() error, err error) {
	key := s.key()
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		e, err := newEngine(s)
		if err != nil {
			return nil, err
		}
		return pooled{e}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	e = value.(pooled).engine
	detach := e.Attach(logger)
	release = sync.OnceValue(func() error {
		_, err := engines.Delete(key)
		detach() // last, so that the end of the engine is still logged
		return err
	})
	return e, release, nil
}

// newEngine makes an engine without any input or output.
func newEngine(s *settings) (e *engine.Engine, err error) {
	config := engine.Config{
		Settings: s.Settings,
		Open: func(ctx context.Context) (store.Store, error) {
			return s.Store.Open(ctx, open.Options{Logger: e.Logger()})
		},
		Embedded: s.Store.Embedded(),
		Name:     instanceName(),
		Where:    s.Store.String(),
		Meter:    Meter,
	}
	if s.Redis != nil {
		config.Proofs = func(logger *slog.Logger) (verify.Cache, error) { return s.Redis.NewCache(logger) }
	}
	e, err = engine.New(config)
	return e, err
}

// retired are the engines that no configuration holds any more and that still have
// requests in flight.
var retired sync.Map // *engine.Engine → nothing

// retirementDelay is how long a replaced engine stays, even without requests: those that
// came just before the reload may not have reached it yet.
const retirementDelay = 2 * time.Second

// retire closes an engine that no configuration holds any more. Requests of the previous
// configuration may still be in flight after a reload. The engine then goes on in the
// background until the last of them has ended, so that a revocation can cut them.
func retire(e *engine.Engine) error {
	if caddy.Exiting() {
		return errors.Join(e.Close(), closeRetired())
	}
	replaced := len(pooledEngines()) > 0
	if e.Idle() && !replaced {
		return e.Close()
	}
	retired.Store(e, nil)
	go func() {
		defer retired.Delete(e)
		if replaced {
			time.Sleep(retirementDelay)
		}
		e.Drain(context.Background())
		if err := e.Close(); err != nil {
			e.Logger().Error("an engine was not closed cleanly", slog.Any("error", err))
		}
	}()
	return nil
}

// closeRetired closes all retired engines when the process ends, which cuts the requests
// in flight. Caddy has waited for them for `grace_period` by then.
func closeRetired() error {
	var closing sync.WaitGroup
	var mu sync.Mutex
	var all error
	for e := range retired.Range {
		closing.Go(func() {
			err := e.(*engine.Engine).Close()
			mu.Lock()
			defer mu.Unlock()
			all = errors.Join(all, err)
		})
	}
	closing.Wait()
	return all
}

// pooledEngines returns the engines that configurations hold, by their keys in the pool.
func pooledEngines() map[any]*engine.Engine {
	all := make(map[any]*engine.Engine)
	engines.Range(func(key, value any) bool {
		all[key] = value.(pooled).engine
		return true
	})
	return all
}

// Totals are figures of all engines of this process.
type Totals struct {
	// Engines is the number of live engines.
	Engines int
	// References is the number of configurations that hold one.
	References int
	verify.Stats
}

// Stats adds up the figures of all engines. Tests use it to see what work a request has
// cost.
func Stats() Totals {
	all := pooledEngines()
	totals := Totals{Engines: len(all)}
	for key, e := range all {
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
