package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Revoker waits until every instance has applied what was committed;
// *[coherence.Revoker] does.
type Revoker interface {
	Wait(ctx context.Context, keys []store.ID, committed time.Time, watch func(coherence.Report)) (coherence.Report, error)
}

// Revocation is the deletion of an id, or of many keys at once. Instances may still accept
// the keys until [Revocation.Wait] has returned.
type Revocation struct {
	service   *Service
	id        store.ID
	label     string
	keys      []store.AuditKey // of [Service.RevokeMany]
	at        time.Time        // zero: neither the rows nor the audit log know the id
	committed time.Time
}

// Revoked is the answer to a revocation.
type Revoked struct {
	ID    store.ID
	Label string
	// Keys are those of [Service.RevokeMany], which has no ID and no Label.
	Keys []store.AuditKey
	// At is when the key was revoked, as the audit log has it: the last one of many. It is
	// zero while some instance may accept a key.
	At     time.Time
	Report coherence.Report
}

// Awaited names the instances that may still accept the key.
func (r *Revoked) Awaited() []string {
	names := make([]string, 0, len(r.Report.Awaited))
	for _, m := range r.Report.Awaited {
		names = append(names, m.Name)
	}
	return names
}

// Revoke deletes a key for ever. This process refuses the key when Revoke returns. The
// other instances refuse it at the end of the wait. An id without a row is logged and
// waited for in the same way: whoever deleted the row may not have waited, and the
// store may have been set back to before the key was minted.
//
// If the database's answer is lost, the key is deleted once more. So an error means
// that the outcome is unknown, never that it was hidden.
func (s *Service) Revoke(ctx context.Context, actor Actor, id store.ID) (*Revocation, error) {
	mayDelete := func(a Actor) error { return a.May(PermissionDelete) }
	if err := s.Allow(actor, PermissionDelete); err != nil {
		return nil, err
	}
	before, err := s.Store.Key(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	r := &Revocation{service: s, id: id}
	write := &store.Write{Acting: actor.acting(s.Now, mayDelete), Sealer: s.Sealer}
	write.Record = func(key *store.Key) store.AuditRecord {
		record := actor.record(store.AuditRevoked, key, s.Now(), http.StatusOK, revokedDetails(key)).Clean()
		r.label, r.at = key.Label, record.At
		return record
	}
	key, err := s.Store.DeleteKey(ctx, id, write)
	if err != nil && !Settled(err) {
		key, err = s.Store.DeleteKey(ctx, id, write)
		if errors.Is(err, store.ErrActorGone) && actor.Key == id {
			// The first attempt has deleted it, or somebody else has. It is logged
			// once more, which needs no actor.
			key, err = s.Store.DeleteKey(ctx, id, nil)
		}
	}
	r.committed = s.Now()
	if s.Forget != nil {
		// Forget the key whatever the store said: the row may be gone, and the answer
		// may be lost.
		s.Forget(id)
	}
	if errors.Is(err, store.ErrNotFound) {
		if key, r.at, err = s.Revoked(ctx, id); key == nil && before != nil {
			key, r.at = before, r.committed // deleted meanwhile, and not recorded
		}
	}
	if err != nil {
		return nil, err
	}
	if key != nil {
		r.label = key.Label
	}
	return r, nil
}

// Revoked returns the id and the label of a key that was revoked, or deleted after its
// expiry, and when that was, as the audit log has it. The key is nil if the audit log does not know the id.
func (s *Service) Revoked(ctx context.Context, id store.ID) (*store.Key, time.Time, error) {
	for _, event := range []store.AuditEvent{store.AuditRevoked, store.AuditExpired} {
		page, err := s.Store.Audit(ctx, &store.AuditQuery{Limit: 1, Key: id, Event: event})
		if err != nil {
			return nil, time.Time{}, err
		}
		if len(page.Records) > 0 {
			record := &page.Records[0]
			return &store.Key{ID: id, Label: record.Key.Label}, record.At, nil
		}
	}
	return nil, time.Time{}, nil
}

// revokedDetails are the details of a revocation: they describe the deleted key.
func revokedDetails(key *store.Key) map[string]any {
	details := granted(key)
	details["created_by"], details["created_at"] = key.CreatedBy, key.CreatedAt
	if !key.LastUsedAt.IsZero() {
		details["last_used_at"] = key.LastUsedAt
	}
	return details
}

// Settled reports whether the error says that nothing was deleted.
func Settled(err error) bool {
	answers := []error{
		store.ErrNotFound, store.ErrActorGone, store.ErrClosed, store.ErrStandby, store.ErrOtherHistory, ErrForbidden, gate.OtherNetwork(),
	}
	return slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) })
}

// Known reports whether the rows or the audit log know the id.
func (r *Revocation) Known() bool { return !r.at.IsZero() }

// Wait returns when no instance accepts the key any more. It calls watch, which may be
// nil, with each step. The error is [store.ErrNotFound] if nobody knows the id, the
// error of ctx, or one of [coherence.Revoker.Wait] if a failover may have undone the
// deletion.
func (r *Revocation) Wait(ctx context.Context, watch func(coherence.Report)) (*Revoked, error) {
	report, err := r.service.Revoker.Wait(ctx, r.ids(), r.committed, watch)
	if err != nil {
		return nil, err
	}
	if r.at.IsZero() {
		return nil, fmt.Errorf("revoke key: %w", store.ErrNotFound)
	}
	revoked := r.SoFar(report)
	revoked.At = r.at
	return revoked, nil
}

// SoFar is the answer to a caller that does not wait for the end.
func (r *Revocation) SoFar(report coherence.Report) *Revoked {
	return &Revoked{ID: r.id, Label: r.label, Keys: r.keys, Report: report}
}
