package observe

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

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
