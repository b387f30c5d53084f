package verify

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
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

// Verify returns whose key it is. The error matches [ErrInvalidToken] and is a
// [Reason] if the key is not to be accepted, or is an [*UnavailableError] if
// that could not be found out; nothing else comes back, apart from the error of
// ctx when the caller went away. Neither carries the key.
//
// A key that is remembered costs no allocation, no lock and no input or output.
func (v *Verifier) Verify(ctx context.Context, key string) (*Identity, error) {
	_, identity, err := v.Admit(ctx, key, nil)
	return identity, err
}

// Admit is Verify for a request that can be cut. On success the flight has
// entered, before the last check of the key, and is to be taken out with
// [coherence.Flight.Leave] when the request has ended.
//
// The id is that of the key, whether it is accepted or not: the id that it says, or
// the one under which a key of another service was found. It is zero if there is none.
func (v *Verifier) Admit(ctx context.Context, key string, flight *coherence.Flight) (store.ID, *Identity, error) {
	id, err := v.config.Minter.Parse(key)
	if err != nil {
		return v.adopt(ctx, key, flight)
	}
	identity, err := v.admit(ctx, &presented{id: id, key: key, digest: token.Digest(key), minted: true}, flight)
	return id, identity, err
}

// adopt is Admit for a string that this system did not mint. It finds out whose the string
// may be, and goes on as for a key that says so itself. What it finds is a hint, so that all
// rules for keys hold unchanged.
func (v *Verifier) adopt(ctx context.Context, key string, flight *coherence.Flight) (store.ID, *Identity, error) {
	if v.config.Adopt == nil || !token.Foreign(key) {
		return store.ID{}, nil, ReasonUnminted
	}
	digest := token.Digest(key)
	match, err := v.config.Adopt.Find(ctx, key, digest, store.ID{})
	if err != nil {
		return store.ID{}, nil, v.notFound(match.Outcome, err, ReasonUnminted)
	}
	id := match.ID
	identity, err := v.admit(ctx, &presented{id: match.ID, key: key, digest: digest}, flight)
	if reason, ok := errors.AsType[Reason](err); ok && reason != ReasonExpired {
		// The row that was found is not that of the string any more. Another one may be.
		if match, err = v.config.Adopt.Find(ctx, key, digest, match.ID); err != nil {
			return id, nil, v.notFound(match.Outcome, err, reason)
		}
		id = match.ID
		identity, err = v.admit(ctx, &presented{id: match.ID, key: key, digest: digest}, flight)
	}
	v.config.Meter.Adopted(string(match.Outcome))
	return id, identity, err
}

// notFound is the answer for a string that no row was found for. The reason is for a
// string that is nobody's key.
func (v *Verifier) notFound(outcome adopt.Outcome, err error, reason Reason) error {
	if outcome == "" { // the client went away
		return err
	}
	v.config.Meter.Adopted(string(outcome))
	if errors.Is(err, adopt.ErrNotFound) {
		return reason
	}
	if later, ok := errors.AsType[*adopt.LaterError](err); ok {
		return &UnavailableError{Reason: ReasonAdoption, RetryAfter: later.RetryAfter, Err: err}
	}
	return unanswered(err)
}

// admit is [Verifier.Admit] for a key that is known by its id, if it is known at all.
func (v *Verifier) admit(ctx context.Context, p *presented, flight *coherence.Flight) (*Identity, error) {
	began := v.sample()
	if identity, now, err := v.recall(p, flight); identity != nil || err != nil {
		if err == nil {
			v.recalled(began, now)
		}
		return identity, err
	}
	if reason, ok := v.negatives.why(p.id, v.config.Now()); ok {
		return nil, reason
	}
	return v.lookUp(ctx, *p, flight)
}

// lookUp asks the store, once for all requests that wait for this key. The
// flight is shared by requests with the same whole key only, known by the same id
// (what another service minted may be known by another one soon), and what it found
// is taken only if the key was not forgotten since: a request that joins a
// flight whose row was read before a revocation must not profit from it.
//
// Each request that waits has a span "look up". The spans of the work are below
// that of the request which began it, whether it waits to the end or not; those of
// the others have a link to it.
func (v *Verifier) lookUp(ctx context.Context, p presented, flight *coherence.Flight) (_ *Identity, err error) {
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
			return nil, Unavailable(ReasonNoLease, ErrNoLease)
		case coherence.Direct:
			return v.direct(context.WithoutCancel(ctx), &p, flight)
		case coherence.Cached:
		}
		shared := v.lookups.DoChan(string(p.id[:])+string(p.digest[:]), func() (any, error) {
			if !v.begin() {
				return span.SpanContext(), unanswered(store.ErrClosed)
			}
			defer v.fills.Done()
			// The work outlives the request that started it: others wait for it,
			// and pgx would close the connection of a cancelled statement.
			return span.SpanContext(), v.fill(context.WithoutCancel(ctx), &p)
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
		if identity, _, err := v.recall(&p, flight); identity != nil || err != nil {
			return identity, err
		}
	}
	return nil, unanswered(ErrChanging)
}

// direct accepts a key on rows that were read for this request alone. It is for
// a database that does not log every change: nothing is remembered then, and a
// read that another request began says nothing of now. The row is read again
// after the flight has entered, so that a look through the flights either finds
// this one or came before the key was found to be there.
func (v *Verifier) direct(ctx context.Context, p *presented, flight *coherence.Flight) (*Identity, error) {
	if !v.begin() {
		return nil, unanswered(store.ErrClosed)
	}
	defer v.fills.Done()
	row, err := v.verified(ctx, p)
	if err != nil {
		return nil, err
	}
	claim := coherence.ClaimOf(row)
	claim.Adopted = !p.minted
	if flight != nil {
		v.config.Flights.Enter(flight, claim)
	}
	again, err := v.readRow(ctx, p.id)
	if err != nil {
		flight.Leave()
		return nil, err
	}
	now := v.config.Now()
	same := coherence.ClaimOf(again)
	if same.Fingerprint != claim.Fingerprint || !slices.Equal(same.Permissions, claim.Permissions) ||
		!same.ExpiresAt.Equal(claim.ExpiresAt) || claim.Adopted && !again.Foreign || v.config.Lease.Standing(now) == coherence.None {
		flight.Leave()
		return nil, unanswered(ErrChanging)
	}
	identity := IdentityOf(again)
	if identity.expired(now) {
		flight.Leave()
		return nil, ReasonExpired
	}
	v.config.Uses.Touch(v.l1.mark(p.id), now)
	return identity, nil
}

// recall accepts a key that is remembered, if memory may be trusted now, and says
// when that was. It returns nothing if the store is to be asked.
//
// The flight enters first, and then the entry is looked at once more: a
// revocation drops the entry and then cuts the flights, so that one of the two
// meets the other. The clock is read after that, so that a process that was
// paused here does not go by the lease that it had before.
func (v *Verifier) recall(p *presented, flight *coherence.Flight) (_ *Identity, now time.Time, _ error) {
	s, e := v.l1.get(p.id)
	if e == nil || subtle.ConstantTimeCompare(e.digest[:], p.digest[:]) != 1 {
		return nil, now, nil
	}
	if flight != nil {
		v.config.Flights.Enter(flight, e.claim)
	}
	now = v.config.Now()
	if !v.l1.holds(s, e) || !now.Before(e.until) || v.config.Lease.Standing(now) != coherence.Cached {
		flight.Leave()
		return nil, now, nil
	}
	if e.identity.expired(now) {
		flight.Leave()
		return nil, now, ReasonExpired
	}
	v.config.Uses.Touch(s.mark, now)
	return e.identity, now, nil
}

// sampling is of how many checks from memory one is timed. A reading of the clock
// takes a tenth of such a check.
const sampling = 256

// sample reads the clock if the next check from memory is to be timed.
func (v *Verifier) sample() (began time.Time) {
	if v.remembered.Load()%sampling == sampling-1 {
		began = v.config.Now()
	}
	return began
}

// recalled counts a key that was accepted from memory at now. The time is that of
// a reading that the check makes anyway, just before its end.
func (v *Verifier) recalled(began, now time.Time) {
	v.remembered.Add(1)
	if !began.IsZero() {
		v.config.Meter.Verified(observe.PathMemory, now.Sub(began))
	}
}

// begin reports whether a lookup may start; fills.Done ends it.
func (v *Verifier) begin() bool {
	v.closing.Lock()
	defer v.closing.Unlock()
	if !v.closed {
		v.fills.Add(1)
	}
	return !v.closed
}
