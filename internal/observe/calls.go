package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Calls shows the calls on a store, or on the shared cache. A driver has one, and
// begins with it each call that a request may wait for, or that what is written
// behind depends on. The change log is not shown: its turns are what the age of a
// lease shows.
type Calls struct {
	kind   string // the first word of a span's name
	system string
	now    func() time.Time
	tell   func(m Meter, operation string, result Result, took time.Duration)
	meter  Meter
}

// OfStore is for a driver, with what OpenTelemetry calls its database.
func OfStore(system string, now func() time.Time) Calls {
	return Calls{kind: "store", system: system, now: now, tell: Meter.StoreCalled, meter: Unmetered{}}
}

// OfRedis is for the shared cache. The error of a cache that is left alone, because
// it has been failing, counts as a failure.
func OfRedis(now func() time.Time) Calls {
	return Calls{kind: "redis", system: "redis", now: now, tell: Meter.RedisCalled, meter: Unmetered{}}
}

// Observe has a meter told of the calls. It is called before there are any.
func (c *Calls) Observe(meter Meter) { c.meter = meter }

// Begin begins one call. Its context is for the rest of the call, and end is deferred
// with the error that the call returns.
func (c *Calls) Begin(ctx context.Context, operation string) (_ context.Context, end func(err *error)) {
	began := c.now()
	ctx, span := Start(ctx, c.kind+" "+operation,
		attribute.String("db.system.name", c.system), attribute.String("db.operation.name", operation))
	return ctx, func(err *error) {
		End(span, *err)
		c.tell(c.meter, operation, ResultOf(*err), c.now().Sub(began))
	}
}

// Observed is what has its calls shown: a driver, or the shared cache.
type Observed interface{ Observe(meter Meter) }

// tracer names this program among those that make spans.
const tracer = "github.com/lumio-vision/caddy-system-keys"

// Start begins a span below that of ctx. Without one, that is without tracing, it
// costs next to nothing and the span does nothing.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return ctx, noop.Span{}
	}
	return parent.TracerProvider().Tracer(tracer).Start(ctx, name,
		trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(attributes...))
}

// End ends a span. Of an error it says of which kind it is, and never its text,
// which may name a key.
func End(span trace.Span, err error) {
	if span.IsRecording() {
		if result := ResultOf(err); result != OK {
			span.SetAttributes(attribute.String("error.type", string(result)))
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}
