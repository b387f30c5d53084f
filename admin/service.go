// Package admin is the admin plane: minting, listing and revoking system keys, and reading the
// audit log.
//
// [Service] holds the rules and knows no transport. [Handler] speaks REST over net/http, and
// gives the paths that are not of the REST API to its surfaces: admin/graphql and admin/page. No
// package here knows Caddy.
//
// Three ideas run through it. Nobody grants more than they hold ([Actor.Grant]). What an actor
// may do is checked twice: when the call comes in, and in the transaction of the write, since
// the acting key may have been revoked meanwhile. A revocation or a rotation whose answer is
// lost is tried once more, so that the caller learns how it ended.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Service mints, lists and revokes keys for an [Actor], and shows the audit log. All fields are
// required but Minter, Forget, Sealer and Asked. It is immutable, and safe for concurrent use.
type Service struct {
	Store store.Store
	// Minter is needed only where keys are created.
	Minter *token.Minter
	// Hash computes the PHC string of a new key.
	Hash func(ctx context.Context, key string) (store.Hash, error)
	// Forget makes this process refuse a revoked key at once. Nil where no
	// requests are served.
	Forget  func(id store.ID)
	Revoker Revoker
	// Sealer chains the audit records of changes. It is nil if the secret is not known
	// here: a server on the same store seals them then.
	Sealer store.Sealer
	// Asked notes that a permission was asked of an acting key. Nil where nobody keeps it.
	Asked func(key store.ID, permission string, at time.Time)
	Now   func() time.Time
}

// Allow returns nil if the actor may make calls that need the permission, and notes that it was
// asked of the acting key. It is noted even if the key lacks it: an admin sees which permissions
// a key would need. The error is [ErrForbidden].
func (s *Service) Allow(actor Actor, permission string) error {
	if s.Asked != nil && actor.Key != (store.ID{}) {
		s.Asked(actor.Key, permission, s.Now())
	}
	return actor.May(permission)
}

// NewKey is what a caller says of the key that it wants. Nothing of it has been checked.
type NewKey struct {
	Label       string
	Permissions []string
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	IsSystem  bool
	// Networks are where the key may be used from, as [store.ParseNetworks] reads them.
	// Without any it may be used from anywhere.
	Networks []string
}

// Create mints a key. The key in clear is returned here and never again. The error is
// [ErrForbidden], [ErrEscalation], one or more [*store.InvalidError], or one of the store's:
// [store.ErrActorGone] if the acting key was revoked or expired before the new one was written.
// It may also be one of Hash, which waits for its turn. If the answer of the store is lost, the
// key may exist. Nobody has seen it then.
func (s *Service) Create(ctx context.Context, actor Actor, want NewKey) (*store.Key, string, error) {
	key, err := s.newRow(actor, want)
	if err != nil {
		return nil, "", err
	}
	plain, err := s.mint(ctx, key)
	if err != nil {
		return nil, "", err
	}
	// The store checks the actor again when it writes the row. Hashing takes a while,
	// and the body may have taken any time.
	mayCreate := func(a Actor) error { return a.mayCreate(key) }
	write := &store.Write{Acting: actor.acting(s.Now, mayCreate), Sealer: s.Sealer}
	write.Record = func(key *store.Key) store.AuditRecord {
		return actor.record(store.AuditCreated, key, s.Now(), http.StatusCreated, granted(key))
	}
	if err := s.Store.CreateKey(ctx, key, write); err != nil {
		return nil, "", fmt.Errorf("create key: %w", err)
	}
	return key, plain, nil
}

// mint makes the key in clear for a row, and puts its hash into the row. The row must have its
// id, which is a part of the key.
func (s *Service) mint(ctx context.Context, row *store.Key) (plain string, err error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand
	plain = s.Minter.Mint(row.ID, secret)
	if row.Hash, err = s.Hash(ctx, plain); err != nil {
		return "", fmt.Errorf("hash key: %w", err)
	}
	return plain, nil
}

// granted are the details of a key's creation, as the audit log keeps them. Their names are
// those of the API. What is not set is left out, so that a record stays short.
func granted(key *store.Key) map[string]any {
	details := map[string]any{"permissions": key.Permissions, "is_system": key.IsSystem}
	if !key.ExpiresAt.IsZero() {
		details["expires_at"] = key.ExpiresAt
	}
	if len(key.Networks) > 0 {
		details["networks"] = key.Networks.Strings()
	}
	if key.Replaces != (store.ID{}) {
		details["replaces"] = key.Replaces
	}
	return details
}

// Check reports what [Service.Create] would refuse without asking the store. The page calls it
// before it spends a nonce.
func (s *Service) Check(actor Actor, want NewKey) error {
	_, err := s.newRow(actor, want)
	return err
}

// newRow makes the row of a wanted key, without its hash. It refuses what the actor may
// not create. The permission to create comes first: a caller without it learns nothing
// about the fields.
//
// What is wrong with the fields is reported all at once. Whether the actor may grant them comes
// last: a mistyped permission is a mistake, and no attempt to get more.
func (s *Service) newRow(actor Actor, want NewKey) (*store.Key, error) {
	if err := s.Allow(actor, PermissionCreate); err != nil {
		return nil, err
	}
	label, labelErr := CleanLabel(want.Label)
	permissions, permissionsErr := store.CleanPermissions(want.Permissions)
	key, err := s.emptyRow(actor)
	if err != nil {
		return nil, err
	}
	expires, expiresErr := cleanExpiry(want.ExpiresAt, key.CreatedAt)
	networks, networksErr := store.ParseNetworks(want.Networks)
	if err := errors.Join(labelErr, permissionsErr, expiresErr, networksErr); err != nil {
		return nil, err
	}
	key.Label, key.Permissions, key.IsSystem = label, permissions, want.IsSystem
	key.Networks, key.ExpiresAt = networks, expires
	return key, actor.mayCreate(key)
}

// emptyRow is the row of a key that the actor creates now, without what the key is for. The id
// is a UUIDv7 (RFC 9562 section 5.7), so ids sort by their creation. Stores keep microseconds: a
// time with more digits would differ from the row that is read back.
func (s *Service) emptyRow(actor Actor) (*store.Key, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make id: %w", err)
	}
	return &store.Key{
		ID: store.ID(id), CreatedAt: s.Now().UTC().Truncate(time.Microsecond), CreatedBy: actor.creator(),
	}, nil
}

// CleanLabel is [store.CleanLabel]. It also refuses a label that holds a system key,
// since a label is shown to every admin, kept in the audit log, and sent to upstreams.
// The error does not repeat the label.
func CleanLabel(label string) (string, error) {
	label, err := store.CleanLabel(label)
	if err == nil && token.Holds(label) {
		return "", &store.InvalidError{Field: "label", Reason: "must not hold a system key"}
	}
	return label, err
}

// cleanExpiry checks an expiry. Zero means never. The stores keep microseconds, and RFC
// 3339 has four digits for the year.
func cleanExpiry(expires, now time.Time) (time.Time, error) {
	if expires.IsZero() {
		return expires, nil
	}
	expires = expires.UTC().Truncate(time.Microsecond)
	switch {
	case !expires.After(now):
		return expires, &store.InvalidError{Field: "expires_at", Reason: "must lie in the future"}
	case expires.Year() > 9999:
		return expires, &store.InvalidError{Field: "expires_at", Reason: "must lie before the year 10000"}
	}
	return expires, nil
}

// Get returns one key, or [store.ErrNotFound]. An actor without the permission gets
// [ErrForbidden] whether or not there is such a key.
func (s *Service) Get(ctx context.Context, actor Actor, id store.ID) (*store.Key, error) {
	if err := s.Allow(actor, PermissionRead); err != nil {
		return nil, err
	}
	return s.Store.Key(ctx, id)
}

// Activity returns what a key is used for, and the key. The error is [store.ErrNotFound] if
// there is no such key.
func (s *Service) Activity(ctx context.Context, actor Actor, id store.ID) (*store.Key, *store.Activity, error) {
	key, err := s.Get(ctx, actor, id)
	if err != nil {
		return nil, nil, err
	}
	activity, err := s.Store.Activity(ctx, id)
	return key, activity, err
}

// List returns one page of keys, without their hashes.
func (s *Service) List(ctx context.Context, actor Actor, query *store.KeyQuery) (*store.KeyPage, error) {
	if err := s.Allow(actor, PermissionRead); err != nil {
		return nil, err
	}
	return s.Store.Keys(ctx, query)
}

// AuditLog returns one page of the audit log. To read it needs a permission of its own: it names
// people and addresses.
func (s *Service) AuditLog(ctx context.Context, actor Actor, query *store.AuditQuery) (*store.AuditPage, error) {
	if err := s.Allow(actor, PermissionAudit); err != nil {
		return nil, err
	}
	return s.Store.Audit(ctx, query)
}
