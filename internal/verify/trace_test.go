package verify_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestALookupThatIsSharedIsTracedOnce has two requests wait for one lookup. Its
// work is below the first one's span, and the other's has a link to that.
func TestALookupThatIsSharedIsTracedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, sharedLookup)
}

func sharedLookup(t *testing.T) {
	t.Helper()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	recorder := tracetest.NewSpanRecorder()
	tracer := trace.NewTracerProvider(trace.WithSpanProcessor(recorder)).Tracer("request")
	read, release := make(chan struct{}, 1), make(chan struct{})
	f.store.setAfter(func(store.ID) {
		read <- struct{}{}
		<-release
	})
	results := make(chan error)
	ask := func(name string) {
		ctx, span := tracer.Start(context.Background(), name)
		_, err := f.verifier.Verify(ctx, key)
		span.End()
		results <- err
	}
	go ask("first")
	<-read
	go ask("second")
	synctest.Wait() // the second waits for the first
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}

	spans := make(map[string]trace.ReadOnlySpan)
	parents := make(map[string][]string)
	for _, s := range recorder.Ended() {
		spans[s.SpanContext().SpanID().String()] = s
	}
	var linked []string
	for _, s := range spans {
		parent := "nothing"
		if p := spans[s.Parent().SpanID().String()]; p != nil {
			parent = p.Name()
		}
		parents[s.Name()] = append(parents[s.Name()], parent)
		slices.Sort(parents[s.Name()])
		for _, l := range s.Links() {
			to := spans[l.SpanContext.SpanID().String()]
			linked = append(linked, spans[s.Parent().SpanID().String()].Name()+" → "+spans[to.Parent().SpanID().String()].Name())
		}
	}
	want := map[string][]string{
		"first": {"nothing"}, "second": {"nothing"}, "look up": {"first", "second"}, "argon2id verify": {"look up"},
	}
	if diff := cmp.Diff(want, parents); diff != "" {
		t.Errorf("spans and what they are below (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"second → first"}, linked); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

// TestAKeyThatIsRememberedHasNoSpan looks at the warm path.
func TestAKeyThatIsRememberedHasNoSpan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	mustVerify(t, f, key)
	recorder := tracetest.NewSpanRecorder()
	ctx, _ := trace.NewTracerProvider(trace.WithSpanProcessor(recorder)).Tracer("request").Start(t.Context(), "request")
	if _, err := f.verifier.Verify(ctx, key); err != nil {
		t.Fatal(err)
	}
	if n := len(recorder.Started()); n != 1 {
		t.Errorf("%d spans", n-1)
	}
}
