package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// relay is a log handler whose target can be replaced while it is in use. Loggers that were
// derived from it follow to the new target.
type relay struct {
	targets *targets
	// derive repeats the calls of With and WithGroup on each new target.
	derive func(slog.Handler) slog.Handler
}

// targets are the attached handlers, the newest last. All relays of an engine share them. A
// record takes no lock; only attach and detach do.
type targets struct {
	current atomic.Pointer[slog.Handler]

	mu       sync.Mutex
	attached []*slog.Handler
}

func newRelay() *relay {
	r := &relay{targets: new(targets), derive: func(h slog.Handler) slog.Handler { return h }}
	r.targets.update()
	return r
}

// attach adds a target. Calling detach removes it again, also if a newer one is attached. To
// call detach twice does no harm.
func (r *relay) attach(h slog.Handler) (detach func()) {
	t := r.targets
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attached = append(t.attached, &h)
	t.update()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.attached = slices.DeleteFunc(t.attached, func(other *slog.Handler) bool { return other == &h })
		t.update()
	}
}

// update makes the newest handler current. Without any, the log is discarded. The caller
// holds the lock.
func (t *targets) update() {
	newest := new(slog.Handler)
	*newest = slog.DiscardHandler
	if n := len(t.attached); n > 0 {
		newest = t.attached[n-1]
	}
	t.current.Store(newest)
}

// current is the newest target with all steps on it. It is made for each record: the engine logs
// seldom.
func (r *relay) current() slog.Handler { return r.derive(*r.targets.current.Load()) }

// with returns a relay to the same targets that also takes a further step on each target.
func (r *relay) with(step func(slog.Handler) slog.Handler) slog.Handler {
	derive := r.derive
	return &relay{targets: r.targets, derive: func(h slog.Handler) slog.Handler { return step(derive(h)) }}
}

// Enabled implements [slog.Handler].
func (r *relay) Enabled(ctx context.Context, level slog.Level) bool {
	return r.current().Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (r *relay) Handle(ctx context.Context, record slog.Record) error {
	return r.current().Handle(ctx, record)
}

// WithAttrs implements [slog.Handler].
func (r *relay) WithAttrs(attrs []slog.Attr) slog.Handler {
	return r.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (r *relay) WithGroup(name string) slog.Handler {
	return r.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}
