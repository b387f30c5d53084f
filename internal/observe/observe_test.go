package observe_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// told is a meter that writes down what it is told.
type told struct {
	observe.Unmetered

	calls []string
}

func (m *told) StoreCalled(operation string, result observe.Result, took time.Duration) {
	m.calls = append(m.calls, fmt.Sprintf("store %s %s %v", operation, result, took))
}

func (m *told) RedisCalled(operation string, result observe.Result, took time.Duration) {
	m.calls = append(m.calls, fmt.Sprintf("redis %s %s %v", operation, result, took))
}

// ticking is a clock that is a millisecond on at every reading.
func ticking() func() time.Time {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return func() time.Time {
		at = at.Add(time.Millisecond)
		return at
	}
}

// traced returns a context with a span, as Caddy's tracing makes it, and where
// spans go when they end.
func traced(t *testing.T) (context.Context, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	ctx, _ := provider.Tracer("request").Start(t.Context(), "request")
	return ctx, recorder
}

func TestACallIsMeasuredAndASpan(t *testing.T) {
	t.Parallel()
	secret := errors.New("canary of the password")
	for name, c := range map[string]struct {
		err    error
		result observe.Result
	}{
		"an answer":             {nil, observe.OK},
		"no such key":           {fmt.Errorf("canary: %w", store.ErrNotFound), observe.OK},
		"a label that is wrong": {&store.InvalidError{Field: "label", Reason: "canary"}, observe.OK},
		"a caller that went":    {fmt.Errorf("canary: %w", context.Canceled), observe.Canceled},
		"no answer in time":     {fmt.Errorf("canary: %w", context.DeadlineExceeded), observe.Timeout},
		"a failure":             {secret, observe.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, recorder := traced(t)
			meter, now := new(told), ticking()
			ofStore, ofRedis := observe.OfStore("postgresql", now), observe.OfRedis(now)
			for operation, calls := range map[string]*observe.Calls{"key": &ofStore, "get": &ofRedis} {
				_ = func() (err error) { // nobody is told yet
					_, end := calls.Begin(t.Context(), operation)
					defer end(&err)
					return c.err
				}()
				calls.Observe(meter)
				err := func() (err error) {
					_, end := calls.Begin(ctx, operation)
					defer end(&err)
					return c.err
				}()
				if !errors.Is(err, c.err) {
					t.Errorf("got %v", err)
				}
			}
			slices.Sort(meter.calls)
			if diff := cmp.Diff([]string{fmt.Sprintf("redis get %s 1ms", c.result), fmt.Sprintf("store key %s 1ms", c.result)}, meter.calls); diff != "" {
				t.Error(diff)
			}
			systems := map[string]string{}
			for _, span := range recorder.Ended() {
				for _, a := range span.Attributes() {
					if a.Key == "db.system.name" {
						systems[span.Name()] = a.Value.AsString()
					}
				}
				if text := fmt.Sprintf("%+v %+v", span.Attributes(), span.Status()); strings.Contains(text, "canary") || len(span.Events()) > 0 {
					t.Errorf("%s has %s %v", span.Name(), text, span.Events())
				}
				if failed := span.Status().Code == codes.Error; failed != (c.result != observe.OK) {
					t.Errorf("%s: error is %v", span.Name(), failed)
				}
				if !span.Parent().IsValid() {
					t.Errorf("%s is not below the request", span.Name())
				}
			}
			if diff := cmp.Diff(map[string]string{"store key": "postgresql", "redis get": "redis"}, systems); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithoutTracingThereIsNoSpan(t *testing.T) {
	t.Parallel()
	ctx, span := observe.Start(t.Context(), "x")
	if ctx != t.Context() || span.IsRecording() {
		t.Error("there is one")
	}
	observe.End(span, errors.New("x"))
}
