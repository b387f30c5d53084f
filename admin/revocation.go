package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
//
// It is made by one goroutine. After that nothing in it changes, so it can be waited for in
// another one.
type Revocation struct {
	service *Service
	id      store.ID
	label   string
	// keys are those of [Service.RevokeMany], or those that were deleted with the id.
	keys       []store.AuditKey
	replacedBy store.AuditKey
	at         time.Time // zero: neither the rows nor the audit log know the id
	committed  time.Time
}

// Revoked is the answer to a revocation, or what is known of one that is not at its end.
type Revoked struct {
	ID    store.ID
	Label string
	// Keys are those of [Service.RevokeMany], which has no ID and no Label. Beside an ID they
	// are the keys that come from it, and that were revoked with it.
	Keys []store.AuditKey
	// ReplacedBy is the successor of the key, if it is accepted still. Otherwise it is zero.
	ReplacedBy store.AuditKey
	// At is when the key was revoked, as the audit log has it: the last one of many. It is
	// zero while some instance may accept a key.
	At     time.Time
	Report coherence.Report
}

// Awaited names the instances that may still accept the key. In a final answer there are none.
func (r *Revoked) Awaited() []string {
	names := make([]string, 0, len(r.Report.Awaited))
	for _, m := range r.Report.Awaited {
		names = append(names, m.Name)
	}
	return names
}

// Revoke deletes a key for ever, with the successors that it has minted of itself, and those that
// these have minted: whoever has stolen the key may have one of them. This process refuses the
// keys when Revoke returns. The other instances refuse them at the end of the wait at the latest.
// An id without a row is logged and waited for in the same way: whoever deleted the row may not
// have waited, and the store may have been set back to before the key was minted.
//
// If the database's answer is lost, the key is deleted once more. After an error of the store the
// key may be deleted all the same.
//
// The row is read first, for its label: after an answer that was lost there may be no row any
// more, and nobody may have recorded its end.
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
	var at time.Time // the same in all records of the transaction; see recall
	write := &store.Write{Acting: actor.acting(s.Now, mayDelete), Sealer: s.Sealer}
	write.Record = func(key *store.Key) store.AuditRecord {
		if at.IsZero() {
			at = s.Now()
		}
		details := revokedDetails(key)
		if key.ID != id {
			details["reason"], details["revoked_with"] = "minted by a revoked key", id
		}
		record := actor.record(store.AuditRevoked, key, at, http.StatusOK, details).Clean()
		if r.at = record.At; key.ID == id {
			r.label = key.Label
		} else {
			r.add(record.Key)
		}
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
	s.forget(slices.Values(r.ids()))
	if gone := errors.Is(err, store.ErrActorGone) && r.has(actor.Key); gone || errors.Is(err, store.ErrNotFound) {
		// The first attempt may have deleted the acting key with the other one.
		key, err = r.recall(ctx, before, err)
	}
	if err == nil {
		err = r.describe(ctx, key)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// forget makes this process refuse keys at once. It is called for all that an attempt may have
// deleted, whatever the store said: the rows may be gone, and the answer may be lost.
func (s *Service) forget(keys iter.Seq[store.ID]) {
	if s.Forget == nil {
		return
	}
	for id := range keys {
		s.Forget(id)
	}
}

// add notes that a key was deleted with the id. A second attempt may meet it again, and must not
// name it twice.
func (r *Revocation) add(key store.AuditKey) {
	if !r.has(key.ID) {
		r.keys = append(r.keys, key)
	}
}

// has reports whether a key was deleted with the id.
func (r *Revocation) has(id store.ID) bool {
	return slices.ContainsFunc(r.keys, func(key store.AuditKey) bool { return key.ID == id })
}

// recall finds out what is known of an id that has no row. Before is the row as it was read
// at first, or nil, and answer is the answer to the deletion. The key is nil if nobody knows
// the id.
func (r *Revocation) recall(ctx context.Context, before *store.Key, answer error) (*store.Key, error) {
	made := r.at
	r.at = time.Time{}
	record, err := r.service.revokedBefore(ctx, r.id)
	switch {
	case err != nil:
		return nil, err
	case record != nil:
		r.at = record.At
		key := &store.Key{ID: r.id, Label: record.Key.Label, ReplacedBy: detailsOf(record).ReplacedBy}
		return key, r.recallOthers(ctx)
	case errors.Is(answer, store.ErrActorGone):
		return nil, answer // nothing was deleted
	case before != nil:
		r.at = r.committed // deleted meanwhile, and not recorded
		return before, nil
	case len(r.keys) > 0:
		r.at = made // known by those that come from it
		return &store.Key{ID: r.id, Label: r.keys[0].Label}, nil
	}
	return nil, nil
}

// recallOthers finds the keys that were deleted with the id. Their records are of the same
// time as that of the id.
//
// More than [store.MaxAuditLimit] revocations at the same microsecond are not looked through.
// Only names in the answer would be missing then.
func (r *Revocation) recallOthers(ctx context.Context) error {
	page, err := r.service.Store.Audit(ctx, &store.AuditQuery{
		Limit: store.MaxAuditLimit, Event: store.AuditRevoked, Since: r.at, Until: r.at.Add(time.Microsecond),
	})
	if err != nil {
		return err
	}
	for i := range page.Records {
		if record := &page.Records[i]; detailsOf(record).RevokedWith == r.id {
			r.add(record.Key)
		}
	}
	return nil
}

// recordedDetails are those details of a revocation that are read again.
type recordedDetails struct {
	ReplacedBy  store.ID `json:"replaced_by"`
	RevokedWith store.ID `json:"revoked_with"`
}

// detailsOf reads the details of a record. Those that another program has written may be of
// another form, and say nothing. With an error, a revocation that was made would seem to have
// failed.
func detailsOf(record *store.AuditRecord) (details recordedDetails) {
	if json.Unmarshal(record.Details, &details) != nil {
		return recordedDetails{}
	}
	return details
}

// describe notes the label of the key, and its successor if that is accepted still. Keys that
// were deleted with it are sorted by id, so that two answers are the same. Key is nil if nobody
// knows the id.
func (r *Revocation) describe(ctx context.Context, key *store.Key) error {
	slices.SortFunc(r.keys, func(a, b store.AuditKey) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if key == nil {
		return nil
	}
	r.label = key.Label
	if key.ReplacedBy == (store.ID{}) || r.has(key.ReplacedBy) {
		return nil
	}
	next, err := r.service.Store.Key(ctx, key.ReplacedBy)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil && !next.Expired(r.service.Now()) {
		r.replacedBy = store.AuditKey{ID: next.ID, Label: next.Label}
	}
	return err
}

// Revoked returns the id and the label of a key that was revoked, or deleted after its
// expiry, and when that was, as the audit log has it. The key is nil if the audit log does not know the id.
func (s *Service) Revoked(ctx context.Context, id store.ID) (*store.Key, time.Time, error) {
	record, err := s.revokedBefore(ctx, id)
	if record == nil {
		return nil, time.Time{}, err
	}
	return &store.Key{ID: id, Label: record.Key.Label}, record.At, nil
}

// revokedBefore returns the record of the deletion of a key, or nil. An admin has revoked it, or
// it was deleted some time after its expiry. A revocation goes before an expiry, and the newest
// record before others.
func (s *Service) revokedBefore(ctx context.Context, id store.ID) (*store.AuditRecord, error) {
	for _, event := range []store.AuditEvent{store.AuditRevoked, store.AuditExpired} {
		page, err := s.Store.Audit(ctx, &store.AuditQuery{Limit: 1, Key: id, Event: event})
		if err != nil {
			return nil, err
		}
		if len(page.Records) > 0 {
			return &page.Records[0], nil
		}
	}
	return nil, nil
}

// revokedDetails are the details of a revocation: they describe the deleted key. The row is
// gone, so nothing else does.
func revokedDetails(key *store.Key) map[string]any {
	details := granted(key)
	details["created_by"], details["created_at"] = key.CreatedBy, key.CreatedAt
	if !key.LastUsedAt.IsZero() {
		details["last_used_at"] = key.LastUsedAt
	}
	if key.ReplacedBy != (store.ID{}) {
		details["replaced_by"] = key.ReplacedBy
	}
	return details
}

// Settled reports whether the error says that nothing was changed. After any other error the
// write may have taken effect. A caller that does not know which it was must not say that it
// failed.
func Settled(err error) bool {
	answers := []error{
		store.ErrNotFound, store.ErrActorGone, store.ErrClosed, store.ErrStandby, store.ErrOtherHistory, store.ErrEnded,
		ErrForbidden, ErrEscalation, gate.OtherNetwork(),
	}
	_, replaced := errors.AsType[*store.ReplacedError](err)
	_, invalid := errors.AsType[*store.InvalidError](err)
	return replaced || invalid || slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) })
}

// Known reports whether the rows or the audit log know the id.
func (r *Revocation) Known() bool { return !r.at.IsZero() }

// Wait returns when no instance accepts the key any more. It calls watch, which may be nil, with
// each step. The error is [store.ErrNotFound] if nobody knows the id, the error of ctx, or one
// of [coherence.Revoker.Wait] if a failover may have undone the deletion.
//
// It waits for an unknown id as well, before it says so. The row may be gone while an instance
// still accepts the key, and the answer 404 must be as safe as 200.
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
	return &Revoked{ID: r.id, Label: r.label, Keys: r.keys, ReplacedBy: r.replacedBy, Report: report}
}
