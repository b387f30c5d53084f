package engine

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// relay is a log handler whose target can be replaced while it is in use.
type relay struct {
	target *atomic.Pointer[slog.Handler]
	// derive is what With and WithGroup asked for, done anew on each target.
	derive func(slog.Handler) slog.Handler
}

func newRelay() *relay {
	r := &relay{
		target: new(atomic.Pointer[slog.Handler]),
		derive: func(h slog.Handler) slog.Handler { return h },
	}
	r.set(slog.DiscardHandler)
	return r
}

func (r *relay) set(h slog.Handler) { r.target.Store(&h) }

func (r *relay) current() slog.Handler { return r.derive(*r.target.Load()) }

func (r *relay) with(step func(slog.Handler) slog.Handler) slog.Handler {
	derive := r.derive
	return &relay{target: r.target, derive: func(h slog.Handler) slog.Handler { return step(derive(h)) }}
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
