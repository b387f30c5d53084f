package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The defaults of [RotateOptions]. docs/api.md promises them to every client.
const (
	DefaultGrace    = time.Hour
	DefaultDeadline = 7 * 24 * time.Hour
)

// RotateOptions says when a key that is rotated ends. The options never make a key live longer
// than it would without them: an earlier expiry of the old key stays.
type RotateOptions struct {
	// Grace is after which time since the first use of the successor the old key ends, and
	// Deadline after which time in any case. Zero is the default.
	Grace, Deadline time.Duration
	// Now ends the old key at once, as [Service.Revoke] does. There is no Grace and no
	// Deadline then.
	Now bool
}

// Rotation is the replacement of a key by a successor.
type Rotation struct {
	// Key is the successor, and Plain its key in clear, which is nowhere else.
	Key   *store.Key
	Plain string
	// Old is the old key, with its end.
	Old *store.Key
	// Ended is the revocation of the keys that were deleted: an unused successor of before,
	// and the old key itself with [RotateOptions.Now]. It is nil if there was none.
	Ended *Revocation
}

// Wait returns when no instance accepts a key that was ended, as [Revocation.Wait] does. Without
// such a key it returns at once.
func (r *Rotation) Wait(ctx context.Context) error {
	if r.Ended == nil {
		return nil
	}
	_, err := r.Ended.Wait(ctx, nil)
	return err
}

// Rotate mints a successor of a key, with the same label, permissions and networks. The old
// key ends later, unless the options say now. The caller waits for the keys that have ended
// already, by [Rotation.Wait].
//
// The error is [ErrForbidden], [ErrEscalation], one or more [*store.InvalidError], or one of
// [store.Store.RotateKey]: [store.ErrNotFound], [store.ErrEnded], a [*store.ReplacedError] or
// [store.ErrActorGone].
func (s *Service) Rotate(ctx context.Context, actor Actor, id store.ID, want RotateOptions) (*Rotation, error) {
	if err := s.mayRotate(actor); err != nil {
		return nil, err
	}
	r := &rotating{service: s, actor: actor, id: id, want: want, may: Actor.MayRotate}
	// The successor is shown to the actor, who must not get more by it than by a new key.
	r.grant = func(now Actor, old *store.Key) error { return now.Grant(old.Permissions, old.IsSystem) }
	return r.run(ctx)
}

// mayRotate returns nil if the actor may rotate any key. A rotation creates a key and ends one,
// so it needs both permissions.
func (s *Service) mayRotate(actor Actor) error {
	return cmp.Or(s.Allow(actor, PermissionCreate), s.Allow(actor, PermissionDelete))
}

// RotateSelf is [Service.Rotate] for the acting key. That key needs [PermissionRotate] alone,
// and hands on all that it holds.
func (s *Service) RotateSelf(ctx context.Context, actor Actor, want RotateOptions) (*Rotation, error) {
	if err := s.mayRotateSelf(actor); err != nil {
		return nil, err
	}
	r := &rotating{service: s, actor: actor, id: actor.Key, want: want}
	r.may = func(now Actor) error { return now.May(PermissionRotate) }
	r.grant = func(Actor, *store.Key) error { return nil }
	return r.run(ctx)
}

// mayRotateSelf returns nil if the actor is a key that may rotate itself. A person has no key,
// and gets 404.
func (s *Service) mayRotateSelf(actor Actor) error {
	if actor.Key == (store.ID{}) {
		return errNoKey
	}
	return s.Allow(actor, PermissionRotate)
}

// errNoKey is the answer to a caller that is no system key and asks about itself. It is shared
// by all requests, so nobody may change it.
var errNoKey = &gate.Refusal{
	Status: http.StatusNotFound, Code: "not_found", Message: "there is no calling key: the caller is no system key",
}

// Self returns the acting key. It needs no permission: a key may know itself. If the row is
// gone, the key was revoked after the request came in, and the answer is that of a revoked key.
func (s *Service) Self(ctx context.Context, actor Actor) (*store.Key, error) {
	if actor.Key == (store.ID{}) {
		return nil, errNoKey
	}
	key, err := s.Store.Key(ctx, actor.Key)
	if errors.Is(err, store.ErrNotFound) {
		err = store.ErrActorGone
	}
	return key, err
}

// rotating is a rotation that is under way.
//
// It serves one call of Rotate or RotateSelf, which differ in may and grant alone. The store may
// call the functions of an attempt more than once. The last call counts.
type rotating struct {
	service *Service
	actor   Actor
	id      store.ID
	want    RotateOptions
	// may says whether the acting key may rotate the key, and grant whether it may have a
	// key like the old one. Both get the acting key as it is in the transaction.
	may   func(now Actor) error
	grant func(now Actor, old *store.Key) error

	known []store.ID                  // see [store.Rotation.Known]
	old   store.Key                   // as the last attempt has found it
	tried map[store.ID]store.AuditKey // what an attempt has deleted, committed or not
	at    time.Time                   // of the last record of a deletion
}

// successor is the row of a successor, with its key in clear.
type successor struct {
	row   *store.Key
	plain string
}

// run rotates the key. If the database's answer is lost, it tries once more with another
// successor: the first one is in the database, or it is not. If it is, it was never used, so
// it is ended by the second attempt.
func (r *rotating) run(ctx context.Context) (*Rotation, error) {
	if err := r.want.check(); err != nil {
		return nil, err
	}
	s := r.service
	r.tried = make(map[store.ID]store.AuditKey)
	// The key is read before the successor is minted, which may wait.
	old, err := s.Store.Key(ctx, r.id)
	switch {
	case err == nil:
		r.known = append(r.known, old.ReplacedBy)
	case !errors.Is(err, store.ErrNotFound): // which the transaction tells from an acting key that is gone
		return nil, err
	}
	next, err := r.mint(ctx)
	if err != nil {
		return nil, err
	}
	rotated, err := r.attempt(ctx, next)
	if err != nil && !Settled(err) {
		first := next
		r.known = append(r.known, first.row.ID)
		if next, err = r.mint(ctx); err == nil {
			rotated, err = r.attempt(ctx, next)
		}
		if err != nil && Settled(err) {
			// The first attempt may have ended the old key, or the acting one. Whatever the
			// second one found, if the first successor is there, that is the answer.
			next = first
			rotated, err = r.recall(ctx, first, err)
		}
	}
	committed := s.Now()
	s.forget(maps.Keys(r.tried))
	if err != nil {
		return nil, err
	}
	rotation := &Rotation{Key: rotated.New, Plain: next.plain, Old: rotated.Old}
	if len(r.tried) > 0 {
		rotation.Ended = &Revocation{service: s, keys: r.ended(rotated), at: r.at, committed: committed}
	}
	return rotation, nil
}

// check returns an error if the options contradict each other.
func (o RotateOptions) check() error {
	if o.Now && (o.Grace != 0 || o.Deadline != 0) {
		return &store.InvalidError{Field: "now", Reason: "must not stand beside grace or deadline"}
	}
	return nil
}

// mint makes a successor. Its key is hashed here, before the transaction, which must be
// short.
func (r *rotating) mint(ctx context.Context) (*successor, error) {
	row, err := r.service.emptyRow(r.actor)
	if err != nil {
		return nil, err
	}
	plain, err := r.service.mint(ctx, row)
	return &successor{row, plain}, err
}

// attempt replaces the key by this successor.
//
// The acting key is kept as the transaction has it: the grant is checked against that, and not
// against what the request came with.
func (r *rotating) attempt(ctx context.Context, next *successor) (*store.Rotated, error) {
	s, now := r.service, r.actor
	write := &store.Write{Record: r.recordOf(next.row.ID), Sealer: s.Sealer}
	write.Acting = r.actor.acting(s.Now, func(acting Actor) error {
		now = acting
		return r.may(acting)
	})
	rotation := &store.Rotation{ID: r.id, Known: r.known, Grace: r.want.Grace, Deadline: r.want.Deadline, Now: r.want.Now}
	if !r.want.Now {
		rotation.Grace = cmp.Or(r.want.Grace, DefaultGrace)
		rotation.Deadline = cmp.Or(r.want.Deadline, DefaultDeadline)
	}
	rotation.Successor = func(old *store.Key) (*store.Key, error) {
		if err := r.grant(now, old); err != nil {
			return nil, err
		}
		r.old, r.old.Hash = *old, ""
		return succeed(*next.row, old)
	}
	rotated, err := s.Store.RotateKey(ctx, rotation, write)
	if err != nil {
		return nil, fmt.Errorf("rotate key: %w", err)
	}
	return rotated, nil
}

// succeed fills in the row of a successor. Another program may have written the old row, with
// texts that no key may have. The store sets the expiry, by the lifetime of the old key.
func succeed(row store.Key, old *store.Key) (*store.Key, error) {
	label, labelErr := CleanLabel(old.Label)
	permissions, permissionsErr := store.CleanPermissions(old.Permissions)
	row.Label, row.Permissions = label, permissions
	row.IsSystem, row.Networks = old.IsSystem, old.Networks
	return &row, errors.Join(labelErr, permissionsErr)
}

// recordOf makes the records of a rotation: one of the successor with this id, and one of each
// key that is deleted.
func (r *rotating) recordOf(id store.ID) func(key *store.Key) store.AuditRecord {
	return func(key *store.Key) store.AuditRecord {
		at := r.service.Now()
		if key.ID == id {
			return r.actor.record(store.AuditCreated, key, at, http.StatusCreated, granted(key))
		}
		details := revokedDetails(key)
		details["reason"], details["replaced_by"] = "rotated", id
		record := r.actor.record(store.AuditRevoked, key, at, http.StatusCreated, details).Clean()
		r.tried[key.ID], r.at = record.Key, record.At
		return record
	}
}

// recall is for a second attempt that was refused. If the first successor is there, the first
// attempt was committed, and has its answer. Otherwise the answer is that of the second one.
func (r *rotating) recall(ctx context.Context, first *successor, second error) (*store.Rotated, error) {
	row, err := r.service.Store.Key(ctx, first.row.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, second
	case err != nil:
		return nil, err
	}
	row.Hash = ""
	old := r.old
	old.ReplacedBy = row.ID
	return &store.Rotated{Old: &old, New: row}, nil
}

// ended are all keys that were tried. Those that are known to be deleted come last; see
// [Revoker]. It takes them out of tried.
func (r *rotating) ended(rotated *store.Rotated) []store.AuditKey {
	var keys []store.AuditKey
	last := make([]store.AuditKey, 0, len(rotated.Ended))
	for _, key := range rotated.Ended {
		last = append(last, store.AuditKey{ID: key.ID, Label: key.Label})
		delete(r.tried, key.ID)
	}
	for _, key := range r.tried {
		keys = append(keys, key)
	}
	return append(keys, last...)
}
