package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Calls traces and times the calls on a store, or on the shared cache. A driver has one.
// It traces each call that a request may wait for, and the writes behind: last use and
// audit records. It does not trace the turns of the change log. The age of the lease shows
// how those go.
type Calls struct {
	kind   string // the first word of a span's name
	system string
	now    func() time.Time
	report func(m Meter, operation string, result Result, took time.Duration)
	meter  Meter
}

// OfStore is for a driver. System is OpenTelemetry's name for its database.
func OfStore(system string, now func() time.Time) Calls {
	return Calls{kind: "store", system: system, now: now, report: Meter.StoreCalled, meter: Unmetered{}}
}

// OfRedis is for the shared cache. If the cache is not asked because it has been failing,
// that counts as a failure too.
func OfRedis(now func() time.Time) Calls {
	return Calls{kind: "redis", system: "redis", now: now, report: Meter.RedisCalled, meter: Unmetered{}}
}

// Observe makes Calls report to a meter. It must be called before the first call.
func (c *Calls) Observe(meter Meter) { c.meter = meter }

// Begin begins one call. The driver uses the returned context for the rest of the call. It
// defers end, with the address of the error that the call returns.
func (c *Calls) Begin(ctx context.Context, operation string) (_ context.Context, end func(err *error)) {
	began := c.now()
	ctx, span := Start(ctx, c.kind+" "+operation,
		attribute.String("db.system.name", c.system), attribute.String("db.operation.name", operation))
	return ctx, func(err *error) {
		End(span, *err)
		c.report(c.meter, operation, ResultOf(*err), c.now().Sub(began))
	}
}

// Observed is a driver, or the shared cache: it reports its calls to a meter.
type Observed interface{ Observe(meter Meter) }

// tracer names this program as the one that makes the spans.
const tracer = "github.com/lumio-vision/caddy-system-keys"

// Start begins a child of the span in ctx. If ctx has no span, because the request is not
// traced, Start costs next to nothing and the span does nothing.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return ctx, noop.Span{}
	}
	return parent.TracerProvider().Tracer(tracer).Start(ctx, name,
		trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(attributes...))
}

// End ends a span. It records the kind of an error. It never records the error's text,
// because the text may name a key.
func End(span trace.Span, err error) {
	if span.IsRecording() {
		if result := ResultOf(err); result != OK {
			span.SetAttributes(attribute.String("error.type", string(result)))
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}
