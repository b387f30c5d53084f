package coherence_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// always is a lease that is not looked at.
type always struct{}

func (always) State(time.Time) coherence.LeaseState { return coherence.LeaseCached }
func (always) Want()                                {}
func (always) Unfollowed() bool                     { return false }

// BenchmarkWarmLease compares, in turns of one run, the check of a key that is
// remembered without a lease, with one, and with a lease and a registration of the
// request in flight.
func BenchmarkWarmLease(b *testing.B) {
	db := newDatabase(rand.New(rand.NewPCG(1, 2)))
	inFlight := coherence.NewInFlight(time.Now)
	lease := coherence.NewLease(time.Minute, time.Now)
	f := coherence.Start(coherence.Config{
		Store: newLink(db, 1), Forget: func(store.ID) {}, ForgetAll: func() {}, Lease: lease, InFlight: inFlight,
		Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	defer func() { _ = f.Close() }()
	<-f.Ready()
	s := &simulation{database: db, minter: simulatedMintKey, history: new(history)}
	key := s.mint(rand.New(rand.NewPCG(3, 4)))
	verifier := func(l verify.Lease) *verify.Verifier {
		v := verify.New(verify.Config{
			Store: newLink(db, 2), Lease: l, InFlight: inFlight, Minter: s.minter,
			Slots: hashing.NewSlots(simulatedCost, 1<<20), Logger: slog.New(slog.DiscardHandler),
		})
		b.Cleanup(v.Close)
		if _, _, err := v.Admit(b.Context(), key.plain, "", nil); err != nil {
			b.Fatal(err)
		}
		return v
	}
	without, with := verifier(always{}), verifier(lease)
	ways := []struct {
		name  string
		check func(context.Context) error
	}{
		{"without", func(ctx context.Context) error { _, _, err := without.Admit(ctx, key.plain, "", nil); return err }},
		{"leased", func(ctx context.Context) error { _, _, err := with.Admit(ctx, key.plain, "", nil); return err }},
		{"registered", func(ctx context.Context) error {
			var request coherence.Request
			_, _, err := with.Admit(ctx, key.plain, "", &request)
			request.Leave()
			return err
		}},
	}
	const turn = 1000
	took := make([]time.Duration, len(ways))
	rounds := 0
	b.ReportAllocs()
	for b.Loop() {
		for i, way := range ways {
			began := time.Now()
			for range turn {
				if err := way.check(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			took[i] += time.Since(began)
		}
		rounds++
	}
	for i, way := range ways {
		b.ReportMetric(float64(took[i].Nanoseconds())/float64(rounds*turn), way.name+"-ns")
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "leased/without")
}

// BenchmarkEnter is what a request pays to be found by a revocation: to enter and
// to leave.
func BenchmarkEnter(b *testing.B) {
	inFlight := coherence.NewInFlight(time.Now)
	claim := coherence.ClaimOf(&store.Key{ID: store.ID{1}})
	b.ReportAllocs()
	var request coherence.Request
	for b.Loop() {
		request = coherence.Request{}
		inFlight.Enter(&request, claim)
		request.Leave()
	}
}

// BenchmarkEnterParallel is the same for one key on all processors, beside 10,000
// other requests.
func BenchmarkEnterParallel(b *testing.B) {
	inFlight := coherence.NewInFlight(time.Now)
	claim := coherence.ClaimOf(&store.Key{ID: store.ID{1}})
	for range 10_000 {
		inFlight.Enter(new(coherence.Request), claim)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			var request coherence.Request
			inFlight.Enter(&request, claim)
			request.Leave()
		}
	})
}

// BenchmarkRevoke is the revocation of a key with 10,000 requests in flight, and as
// many of other keys: until all of them know. Each is a real exchange.
func BenchmarkRevoke(b *testing.B) {
	const n = 10_000
	inFlight := coherence.NewInFlight(time.Now)
	claim, other := coherence.ClaimOf(&store.Key{ID: store.ID{1}}), coherence.ClaimOf(&store.Key{ID: store.ID{2}})
	for range n {
		inFlight.Enter(&coherence.Request{Exchange: cut.New(nil, nil)}, other)
	}
	for b.Loop() {
		b.StopTimer()
		own := make([]coherence.Request, n)
		requests := make([]*http.Request, n)
		exchanges := make([]*cut.Exchange, n)
		for i := range own {
			exchanges[i] = cut.New(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody))
			_, requests[i] = exchanges[i].Wrap(nil)
			own[i].Exchange = exchanges[i]
			inFlight.Enter(&own[i], claim)
		}
		b.StartTimer()
		if got := inFlight.Cut(claim.ID, cut.ErrRevoked); got != n {
			b.Fatalf("%d were cut", got)
		}
		b.StopTimer()
		for i := range own {
			if !errors.Is(context.Cause(requests[i].Context()), cut.ErrRevoked) {
				b.Fatal("one does not know")
			}
			own[i].Leave()
			exchanges[i].Finish()
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/request")
}
