package verify

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// attempts is how often a lookup starts over because the key was changed while
// it was read.
const attempts = 3

// What keeps a key from being found good or not.
var (
	// ErrChanging says that the key changed again and again while it was read.
	ErrChanging = errors.New("the key changed while it was read")
	// ErrNoLease says that nothing may be accepted; see [coherence.Lease].
	ErrNoLease = errors.New("this instance has no lease: changes of keys may not have reached it")
)

// lookUp asks the store, once for all requests that wait for this key. The
// flight is shared by requests with the same whole key only, known by the same id
// (what another service minted may be known by another one soon), and what it found
// is taken only if the key was not forgotten since: a request that joins a
// flight whose row was read before a revocation must not profit from it.
//
// Each request that waits has a span "look up". The spans of the work are below
// that of the request which began it, whether it waits to the end or not; those of
// the others have a link to it.
func (v *Verifier) lookUp(
	ctx context.Context, id store.ID, key string, digest [32]byte, flight *coherence.Flight,
) (_ *Identity, err error) {
	ctx, span := observe.Start(ctx, "look up")
	defer func() {
		if errors.Is(err, ErrInvalidToken) {
			observe.End(span, nil) // that a key is not good is an answer
			return
		}
		observe.End(span, err)
	}()
	for range attempts {
		switch v.config.Lease.Standing(v.config.Now()) {
		case coherence.None:
			v.config.Lease.Want()
			return nil, unavailable(ErrNoLease)
		case coherence.Direct:
			return v.direct(context.WithoutCancel(ctx), id, key, digest, flight)
		case coherence.Cached:
		}
		shared := v.flights.DoChan(string(id[:])+string(digest[:]), func() (any, error) {
			if !v.begin() {
				return span.SpanContext(), unavailable(store.ErrClosed)
			}
			defer v.fills.Done()
			// The work outlives the request that started it: others wait for it,
			// and pgx would close the connection of a cancelled statement.
			return span.SpanContext(), v.fill(context.WithoutCancel(ctx), id, key, digest)
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case result := <-shared:
			if work, _ := result.Val.(trace.SpanContext); work.IsValid() && work.SpanID() != span.SpanContext().SpanID() {
				span.AddLink(trace.Link{SpanContext: work})
			}
			if result.Err != nil {
				return nil, result.Err
			}
		}
		if identity, _, err := v.recall(id, &digest, flight); identity != nil || err != nil {
			return identity, err
		}
	}
	return nil, unavailable(ErrChanging)
}

// direct accepts a key on rows that were read for this request alone. It is for
// a database that does not log every change: nothing is remembered then, and a
// read that another request began says nothing of now. The row is read again
// after the flight has entered, so that a look through the flights either finds
// this one or came before the key was found to be there.
func (v *Verifier) direct(
	ctx context.Context, id store.ID, key string, digest [32]byte, flight *coherence.Flight,
) (*Identity, error) {
	if !v.begin() {
		return nil, unavailable(store.ErrClosed)
	}
	defer v.fills.Done()
	row, err := v.verified(ctx, id, key, digest)
	if err != nil {
		return nil, err
	}
	claim := coherence.ClaimOf(row)
	claim.Adopted = !v.minted(key)
	if flight != nil {
		v.config.Flights.Enter(flight, claim)
	}
	again, err := v.readRow(ctx, id)
	if err != nil {
		flight.Leave()
		return nil, err
	}
	now := v.config.Now()
	same := coherence.ClaimOf(again)
	if same.Fingerprint != claim.Fingerprint || !slices.Equal(same.Permissions, claim.Permissions) ||
		!same.ExpiresAt.Equal(claim.ExpiresAt) || claim.Adopted && !again.Foreign || v.config.Lease.Standing(now) == coherence.None {
		flight.Leave()
		return nil, unavailable(ErrChanging)
	}
	identity := IdentityOf(again)
	if identity.expired(now) {
		flight.Leave()
		return nil, ReasonExpired
	}
	v.config.Uses.Touch(v.l1.mark(id), now)
	return identity, nil
}

// age is how long an entry is believed: entries that were made together do not
// end together.
func (v *Verifier) age() time.Duration {
	return v.config.MaxAge*9/10 + rand.N(v.config.MaxAge/5+1) //nolint:gosec // spreads load
}
