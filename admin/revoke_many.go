package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// RevokeMany deletes all keys that match the filter in one transaction: all or none. The
// acting key is never among them. Otherwise it is as [Service.Revoke]. If no key matches,
// the wait makes sure that none that matched before is accepted any more.
//
// One transaction means that an attacker cannot use the second key while the first one ends, and
// that an error leaves nothing half done.
func (s *Service) RevokeMany(ctx context.Context, actor Actor, filter *store.KeyFilter) (*Revocation, error) {
	mayDelete := func(a Actor) error { return a.May(PermissionDelete) }
	if err := s.Allow(actor, PermissionDelete); err != nil {
		return nil, err
	}
	filter = sparing(actor, filter)
	r := &Revocation{service: s}
	tried := make(map[store.ID]store.AuditKey) // what an attempt has deleted, committed or not
	write := &store.Write{Acting: actor.acting(s.Now, mayDelete), Sealer: s.Sealer}
	write.Record = func(key *store.Key) store.AuditRecord {
		record := actor.record(store.AuditRevoked, key, s.Now(), http.StatusOK, revokedDetails(key)).Clean()
		tried[key.ID], r.at = record.Key, record.At
		return record
	}
	keys, err := s.Store.DeleteKeys(ctx, filter, write)
	if err != nil && !Settled(err) {
		keys, err = s.deleteAgain(ctx, filter, write, tried, r)
	}
	r.committed = s.Now()
	s.forget(maps.Keys(tried))
	if err != nil {
		return nil, err
	}
	if r.at.IsZero() {
		r.at = r.committed
	}
	for _, key := range keys {
		r.keys = append(r.keys, store.AuditKey{ID: key.ID, Label: key.Label})
	}
	return r, nil
}

// deleteAgain deletes once more, since the answer to the first attempt was lost. What that
// attempt has deleted does not match any more. The audit log knows it: the records are part
// of the transaction. Those keys come first in r, as they did in the database.
func (s *Service) deleteAgain(
	ctx context.Context, filter *store.KeyFilter, write *store.Write, tried map[store.ID]store.AuditKey, r *Revocation,
) ([]*store.Key, error) {
	before := maps.Clone(tried)
	keys, err := s.Store.DeleteKeys(ctx, filter, write)
	for _, key := range keys {
		delete(before, key.ID)
	}
	if err != nil || len(before) == 0 {
		return keys, err
	}
	_, revoked, err := s.Store.KnownKeys(ctx, slices.Collect(maps.Keys(before)))
	for _, id := range revoked {
		r.keys = append(r.keys, tried[id])
	}
	return keys, err
}

// Matching returns the keys that [Service.RevokeMany] would delete. It needs the permission to
// delete and not the one to read, since the answer is that of a deletion which was not made.
func (s *Service) Matching(ctx context.Context, actor Actor, filter *store.KeyFilter) ([]store.AuditKey, error) {
	if err := s.Allow(actor, PermissionDelete); err != nil {
		return nil, err
	}
	keys, err := s.Store.MatchKeys(ctx, sparing(actor, filter))
	if err != nil {
		return nil, err
	}
	named := make([]store.AuditKey, 0, len(keys))
	for _, key := range keys {
		named = append(named, store.AuditKey{ID: key.ID, Label: key.Label})
	}
	return named, nil
}

// sparing is the filter that also keeps the acting key. A caller who ends many keys would
// not expect to be locked out by it.
func sparing(actor Actor, filter *store.KeyFilter) *store.KeyFilter {
	spared := *filter
	if actor.Key != (store.ID{}) {
		spared.Except = append(slices.Clone(filter.Except), actor.Key)
	}
	return &spared
}

// ids are the deleted keys, the last one at last. Those that were deleted with an id come
// after it: its own row may have been gone long before.
func (r *Revocation) ids() []store.ID {
	ids := make([]store.ID, 0, len(r.keys)+1)
	if r.id != (store.ID{}) {
		ids = append(ids, r.id)
	}
	for _, key := range r.keys {
		ids = append(ids, key.ID)
	}
	return ids
}
