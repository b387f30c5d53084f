package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// Cache is a cache shared by instances, Redis in practice. It is asked for
// finished work only, so that whatever it answers, or does not, changes nothing
// but the time a verification takes.
type Cache interface {
	// Get returns the value at the address, or nil if there is none.
	Get(ctx context.Context, address string) ([]byte, error)
	// Set keeps a value for a time.
	Set(ctx context.Context, address string, value []byte, ttl time.Duration) error
}

// Redis is a cache whose calls are observed. The error of a cache that is left
// alone, because it has been failing, counts as a failure.
type Redis struct {
	Cache Cache
	Meter Meter
	Now   func() time.Time
}

// begin starts the observation of one call, which the function returned ends.
func (r *Redis) begin(ctx context.Context, operation string) (context.Context, func(error)) {
	began := r.Now()
	ctx, span := Start(ctx, "redis "+operation,
		attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", operation))
	return ctx, func(err error) {
		End(span, err)
		r.Meter.RedisCalled(operation, ResultOf(err), r.Now().Sub(began))
	}
}

// Get implements [Cache].
func (r *Redis) Get(ctx context.Context, address string) ([]byte, error) {
	ctx, end := r.begin(ctx, "get")
	value, err := r.Cache.Get(ctx, address)
	end(err)
	return value, err
}

// Set implements [Cache].
func (r *Redis) Set(ctx context.Context, address string, value []byte, ttl time.Duration) error {
	ctx, end := r.begin(ctx, "set")
	err := r.Cache.Set(ctx, address, value, ttl)
	end(err)
	return err
}

var _ Cache = (*Redis)(nil)
