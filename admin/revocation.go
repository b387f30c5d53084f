package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Revoker waits until what was committed is true on every instance;
// *[coherence.Revoker] does.
type Revoker interface {
	Wait(ctx context.Context, key store.ID, committed time.Time, watch func(coherence.Report)) (coherence.Report, error)
}

// Revocation is a key that was deleted. Instances may still accept it until
// [Revocation.Wait] has returned.
type Revocation struct {
	service   *Service
	id        store.ID
	key       *store.Key // nil: it was gone before
	committed time.Time
}

// Revoked is the answer to a revocation.
type Revoked struct {
	Key *store.Key
	// At is when it was true everywhere.
	At     time.Time
	Report coherence.Report
}

// Revoke deletes a key for ever. This process refuses it from the moment that
// Revoke returns, the others by the end of the wait. A key that is gone already
// is waited for in the same way: whoever deleted it may not have waited.
//
// If the database's answer is lost the key is deleted once more, so that an
// error means that the outcome could not be learned, never that it was hidden.
func (s *Service) Revoke(ctx context.Context, actor Actor, id store.ID) (*Revocation, error) {
	check := func(a Actor) error { return a.may(PermissionDelete) }
	if err := check(actor); err != nil {
		return nil, err
	}
	before, err := s.Store.Key(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	write := &store.Write{Acting: actor.acting(s.Now, check), Sealer: s.Sealer}
	write.Record = func(key *store.Key) store.AuditRecord {
		return actor.record(store.AuditRevoked, key, s.Now(), http.StatusOK, revokedDetails(key))
	}
	key, err := s.Store.DeleteKey(ctx, id, write)
	if err != nil && !settled(err) {
		key, err = s.Store.DeleteKey(ctx, id, write)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrActorGone) && actor.Key == id {
			key, err = before, nil // by the first attempt, or by somebody else meanwhile
		}
	}
	committed := s.Now()
	if s.Forget != nil {
		// Whatever the store said: if the row is gone already, or if the answer
		// was lost, a memory of it is not to be trusted.
		s.Forget(id)
	}
	if errors.Is(err, store.ErrNotFound) {
		// Behind the barrier is whatever deleted it.
		if _, err = s.Store.Barrier(ctx); err != nil {
			return nil, fmt.Errorf("key is gone, but the instances cannot be told: %w", err)
		}
		committed = s.Now()
	}
	if err != nil {
		return nil, err
	}
	return &Revocation{service: s, id: id, key: key, committed: committed}, nil
}

// revokedDetails are the details of a key's revocation: what it was.
func revokedDetails(key *store.Key) map[string]any {
	details := granted(key)
	details["created_by"], details["created_at"] = key.CreatedBy, key.CreatedAt
	if !key.LastUsedAt.IsZero() {
		details["last_used_at"] = key.LastUsedAt
	}
	return details
}

// settled reports whether the error says that nothing was deleted.
func settled(err error) bool {
	for _, answer := range []error{
		store.ErrNotFound, store.ErrActorGone, store.ErrClosed, store.ErrStandby, store.ErrOtherHistory, ErrForbidden,
	} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// Wait returns when no instance accepts the key any more. How far it has come
// goes to watch, which may be nil. The error is [store.ErrNotFound] if the key
// was gone before it was to be revoked, that of ctx, or one of [coherence.Revoker.Wait]
// if a failover may have undone it.
func (r *Revocation) Wait(ctx context.Context, watch func(coherence.Report)) (*Revoked, error) {
	report, err := r.service.Revoker.Wait(ctx, r.id, r.committed, watch)
	if err != nil {
		return nil, err
	}
	if r.key == nil {
		return nil, fmt.Errorf("revoke key: %w", store.ErrNotFound)
	}
	return r.revoked(report), nil
}

func (r *Revocation) revoked(report coherence.Report) *Revoked {
	return &Revoked{Key: r.key, At: r.service.Now().UTC().Truncate(time.Microsecond), Report: report}
}
