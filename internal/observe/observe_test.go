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
type told struct{ calls []string }

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

// failing is a store and a cache whose calls fail as they are told to.
type failing struct {
	store.Store
	err error
}

func (f *failing) Key(context.Context, store.ID) (*store.Key, error) { return nil, f.err }
func (f *failing) Keys(context.Context, *store.KeyQuery) (*store.KeyPage, error) {
	return nil, f.err
}
func (f *failing) Granted(context.Context, int) ([]string, error)            { return nil, f.err }
func (f *failing) CreateKey(context.Context, *store.Key, *store.Write) error { return f.err }
func (f *failing) DeleteKey(context.Context, store.ID, *store.Write) (*store.Key, error) {
	return nil, f.err
}

func (f *failing) RehashKey(context.Context, store.ID, store.Hash, store.Hash) error { return f.err }

func (f *failing) Adopted(context.Context, [][32]byte) (store.Candidate, error) {
	return store.Candidate{}, f.err
}

func (f *failing) Adopt(context.Context, *store.AdoptedKey) error { return f.err }
func (f *failing) Unadopted(context.Context, [][32]byte, time.Time, int) ([]store.Candidate, int, error) {
	return nil, 0, f.err
}

func (f *failing) RecordUse(context.Context, []store.Use) error { return f.err }

func (f *failing) Progress(context.Context, store.ID) (*store.Progress, error) { return nil, f.err }

func (f *failing) AppendAudit(context.Context, store.ID, []store.AuditRecord, store.Sealer) error {
	return f.err
}

func (f *failing) Audit(context.Context, *store.AuditQuery) (*store.AuditPage, error) {
	return nil, f.err
}

func (f *failing) Session(context.Context, [32]byte, time.Time) (*store.Key, error) {
	return nil, f.err
}
func (f *failing) Get(context.Context, string) ([]byte, error)              { return nil, f.err }
func (f *failing) Set(context.Context, string, []byte, time.Duration) error { return f.err }

// everything makes every observed call, and returns the errors.
func everything(ctx context.Context, s *observe.Store, r *observe.Redis) []error {
	var errs []error
	note := func(_ any, err error) { errs = append(errs, err) }
	note(s.Key(ctx, store.ID{7}))
	note(s.Keys(ctx, nil))
	note(s.Granted(ctx, 1))
	note(nil, s.CreateKey(ctx, &store.Key{Label: "canary"}, nil))
	note(s.DeleteKey(ctx, store.ID{7}, nil))
	note(nil, s.RehashKey(ctx, store.ID{7}, "canary", "canary"))
	note(s.Adopted(ctx, nil))
	note(nil, s.Adopt(ctx, &store.AdoptedKey{Hash: "canary"}))
	_, _, err := s.Unadopted(ctx, nil, time.Time{}, 1)
	note(nil, err)
	note(nil, s.RecordUse(ctx, nil))
	note(s.Progress(ctx, store.ID{7}))
	note(nil, s.AppendAudit(ctx, store.ID{7}, nil, nil))
	note(s.Audit(ctx, nil))
	note(s.Session(ctx, [32]byte{7}, time.Time{}))
	note(r.Get(ctx, "canary"))
	note(nil, r.Set(ctx, "canary", []byte("canary"), time.Hour))
	return errs
}

var operations = []string{
	"store key", "store keys", "store granted", "store create_key", "store delete_key", "store rehash_key",
	"store adopted", "store adopt", "store unadopted", "store record_use",
	"store progress", "store append_audit", "store audit", "store session", "redis get", "redis set",
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

func TestEveryCallIsMeasuredAndASpan(t *testing.T) {
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
			meter, double, now := new(told), &failing{err: c.err}, ticking()
			errs := everything(ctx,
				&observe.Store{Store: double, System: "postgresql", Meter: meter, Now: now}, &observe.Redis{Cache: double, Meter: meter, Now: now})
			for _, err := range errs {
				if !errors.Is(err, c.err) {
					t.Errorf("got %v", err)
				}
			}
			var want, got []string
			for _, operation := range operations {
				want = append(want, fmt.Sprintf("%s %s 1ms", operation, c.result))
			}
			if diff := cmp.Diff(want, meter.calls); diff != "" {
				t.Error(diff)
			}
			for _, span := range recorder.Ended() {
				got = append(got, span.Name())
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
			if !slices.Equal(got, operations) {
				t.Errorf("spans are %q", got)
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
