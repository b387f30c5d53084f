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

// attempts is how often a key is looked up if it changes during each lookup.
const attempts = 3

// The causes of an [UnavailableError] that this package finds itself.
var (
	// ErrChanging says that the key changed during each of the attempts to read it.
	ErrChanging = errors.New("the key changed while it was read")
	// ErrNoLease says that no key may be accepted now; see [coherence.Lease].
	ErrNoLease = errors.New("this instance has no lease: changes of keys may not have reached it")
)

// ErrNetwork says that a key is good, and that its client is outside of the key's networks.
var ErrNetwork = errors.New("the client's address is in none of the key's networks")

// Admit returns the identity that a key belongs to. If the key is not accepted, the error is
// a [Reason], and matches [ErrInvalidToken]. If that cannot be decided now, the error is an
// [*UnavailableError]. If the caller went away, it is the error of ctx. There are no other
// errors but [ErrNetwork], and none holds the key. A key that is in memory costs no
// allocation, no lock, and no input or output.
//
// On success the request has entered, before the last check of the key. The caller must call
// [coherence.Request.Leave] when the request has ended. Without a request, which is nil then,
// nothing can be cut.
//
// Client is the address of the client, as text. A key that has networks is admitted only from
// there. With [ErrNetwork] the identity is returned too, and the key does not count as used.
//
// The id is returned whether the key is accepted or not. It is the id in the key or, for a
// key of another service, the id of the row that was found. It is zero if there is none.
func (v *Verifier) Admit(ctx context.Context, key, client string, request *coherence.Request) (store.ID, *Identity, error) {
	if request != nil {
		request.Client = client
	}
	id, digest, malformed := token.Read(key)
	p := presented{id: id, key: key, digest: digest, client: client}
	// An entry is there only for a string whose tag was checked, and the digest is that of
	// the whole string. So a key that is in memory needs no look at its tag.
	if identity, err := v.recallTimed(&p, request); identity != nil || err != nil {
		return id, identity, err
	}
	if p.minted = v.config.Minter.Minted(key); !p.minted || malformed != nil {
		return v.adopt(ctx, key, client, request)
	}
	identity, err := v.admitCold(ctx, &p, request)
	return id, identity, err
}

// adopt is Admit for a string that this system did not mint. It finds out whose the string
// may be, and goes on as for a key that says so itself. What it finds is a hint, so that all
// rules for keys hold unchanged.
func (v *Verifier) adopt(ctx context.Context, key, client string, request *coherence.Request) (store.ID, *Identity, error) {
	if v.config.Adopt == nil || !token.Foreign(key) {
		return store.ID{}, nil, ReasonUnminted
	}
	p := presented{key: key, digest: token.Digest(key), client: client}
	refusal := ReasonUnminted
	for {
		refused := p.id
		match, err := v.config.Adopt.Find(ctx, key, p.digest, refused)
		if err != nil {
			return refused, nil, v.notFound(match.Outcome, err, refusal)
		}
		p.id = match.ID
		identity, err := v.recallTimed(&p, request)
		if identity == nil && err == nil {
			identity, err = v.admitCold(ctx, &p, request)
		}
		reason, ok := errors.AsType[Reason](err)
		if !ok || reason == ReasonExpired || refused != (store.ID{}) {
			v.config.Meter.Adopted(match.Outcome)
			return p.id, identity, err
		}
		refusal = reason // The row that was found is not that of the string any more. Another one may be.
	}
}

// notFound is the answer for a string that no row was found for. The reason is for a
// string that is nobody's key.
func (v *Verifier) notFound(outcome observe.Outcome, err error, reason Reason) error {
	if outcome == "" { // the client went away
		return err
	}
	v.config.Meter.Adopted(outcome)
	if errors.Is(err, adopt.ErrNotFound) {
		return reason
	}
	if later, ok := errors.AsType[*adopt.LaterError](err); ok {
		return &UnavailableError{Reason: ReasonAdoption, RetryAfter: later.RetryAfter, Err: err}
	}
	return unanswered(err)
}

// admitCold is [Verifier.Admit] for a key that is not in memory.
func (v *Verifier) admitCold(ctx context.Context, p *presented, request *coherence.Request) (*Identity, error) {
	if reason, ok := v.negatives.reason(p.id, v.config.Now()); ok {
		return nil, reason
	}
	return v.lookUp(ctx, *p, request)
}

// lookUp asks the store, once for all requests that wait for this key. Requests share a
// lookup only if they have the same whole key and the same id. (The id of a key of another
// service may change soon.) The lookup fills memory, and each request is then accepted from
// memory. So if the key was forgotten since, the result does not count: a request that joins
// a lookup whose row was read before a revocation must not be accepted.
//
// Each request that waits has a span "look up". The spans of the work are children of the
// span of the request that began the lookup, even if that request does not wait to the end.
// The spans of the other requests link to that span.
func (v *Verifier) lookUp(ctx context.Context, p presented, request *coherence.Request) (_ *Identity, err error) {
	ctx, span := observe.Start(ctx, "look up")
	defer func() {
		if errors.Is(err, ErrInvalidToken) {
			observe.End(span, nil) // a refusal is an answer, and no error of the lookup
			return
		}
		observe.End(span, err)
	}()
	for range attempts {
		switch v.config.Lease.State(v.config.Now()) {
		case coherence.LeaseNone:
			v.config.Lease.Want()
			return nil, Unavailable(ReasonNoLease, ErrNoLease)
		case coherence.LeaseDirect:
			return v.direct(context.WithoutCancel(ctx), &p, request)
		case coherence.LeaseCached:
		}
		shared := v.lookups.DoChan(string(p.id[:])+string(p.digest[:]), func() (any, error) {
			if !v.begin() {
				return span.SpanContext(), unanswered(store.ErrClosed)
			}
			defer v.fills.Done()
			// The work outlives the request that began it. Other requests wait for it,
			// and pgx would close the connection of a canceled statement.
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
		if identity, _, err := v.recall(&p, request); identity != nil || err != nil {
			return identity, err
		}
	}
	return nil, unanswered(ErrChanging)
}

// direct accepts a key on rows that are read for this request alone. It is for a database
// that does not log every change. Nothing is remembered then, and a read that another
// request began earlier proves nothing. The row is read again after the request has entered.
// So a search through the requests either finds this one, or came before the second read.
func (v *Verifier) direct(ctx context.Context, p *presented, request *coherence.Request) (_ *Identity, err error) {
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
	if request != nil {
		v.config.InFlight.Enter(request, claim)
	}
	defer func() {
		if err != nil {
			request.Leave()
		}
	}()
	reread, err := v.readRow(ctx, p.id)
	if err != nil {
		return nil, err
	}
	now := v.config.Now()
	second := coherence.ClaimOf(reread)
	if second.Fingerprint != claim.Fingerprint || !slices.Equal(second.Permissions, claim.Permissions) ||
		!second.ExpiresAt.Equal(claim.ExpiresAt) || claim.Adopted && !reread.Foreign || v.config.Lease.State(now) == coherence.LeaseNone {
		return nil, unanswered(ErrChanging)
	}
	identity := IdentityOf(reread)
	switch {
	case identity.expired(now):
		return nil, ReasonExpired
	case !reread.Networks.Allow(p.client):
		return identity, ErrNetwork
	}
	identity.uses = v.l1.mark(p.id)
	if begins(reread) {
		identity.uses.Hurry()
	}
	identity.uses.Use(p.client, now)
	return identity, nil
}

// recall accepts a key that is in memory, if memory may be trusted now, and returns when
// that was. If it returns neither an identity nor an error, the store must be asked.
//
// The request enters first, and then the entry is checked once more. A revocation drops the
// entry first, and then cuts the requests. So either the check misses the entry, or the
// revocation finds the request. The clock is read after the request has entered. So a process
// that was paused before does not rely on the lease that it had then.
func (v *Verifier) recall(p *presented, request *coherence.Request) (_ *Identity, now time.Time, _ error) {
	s, e := v.l1.get(p.id)
	if e == nil || subtle.ConstantTimeCompare(e.digest[:], p.digest[:]) != 1 {
		return nil, now, nil
	}
	s.visit()
	if request != nil {
		v.config.InFlight.Enter(request, e.claim)
	}
	now = v.config.Now()
	if !v.l1.current(s, e) || !now.Before(e.until) || v.config.Lease.State(now) != coherence.LeaseCached {
		request.Leave()
		return nil, now, nil
	}
	if e.identity.expired(now) {
		request.Leave()
		return nil, now, ReasonExpired
	}
	if !e.fence.allow(p.client) {
		request.Leave()
		return e.identity, now, ErrNetwork
	}
	s.uses.Use(p.client, now)
	return e.identity, now, nil
}

// sampleEvery says that one in so many checks from memory is timed. To read the clock takes
// a tenth of the time of such a check.
const sampleEvery = 256

// recallTimed is recall, counted. One in sampleEvery checks is timed. Its end is the reading
// of the clock that recall needs anyway.
func (v *Verifier) recallTimed(p *presented, request *coherence.Request) (*Identity, error) {
	var began time.Time
	if v.remembered.Load()%sampleEvery == sampleEvery-1 {
		began = v.config.Now()
	}
	identity, now, err := v.recall(p, request)
	if identity == nil || err != nil {
		return identity, err
	}
	v.remembered.Add(1)
	if !began.IsZero() {
		v.config.Meter.Verified(observe.PathMemory, now.Sub(began))
	}
	return identity, nil
}

// begin reports whether a lookup may begin. If so, the caller must call fills.Done at its
// end.
func (v *Verifier) begin() bool {
	v.closing.Lock()
	defer v.closing.Unlock()
	if !v.closed {
		v.fills.Add(1)
	}
	return !v.closed
}
