package admin

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The permissions of the admin plane.
const (
	PermissionRead   = "system-keys:read"
	PermissionCreate = "system-keys:create"
	PermissionDelete = "system-keys:delete"
)

// The errors of [Service] beside those of package store.
var (
	// ErrForbidden says that the actor lacks the permission for the call.
	ErrForbidden = errors.New("permission denied")
	// ErrEscalation says that the actor wants to grant what it does not hold.
	ErrEscalation = errors.New("a grant beyond the caller's own permissions")
)

// Actor is who acts on the admin plane.
type Actor struct {
	// Key is the acting key, or zero for who needs none. A write reads it again
	// in its own transaction: what was true of it when the request came in does
	// not count any more.
	Key store.ID
	// Name is what the keys that it mints carry as their creator: the id of the
	// acting key, or a word such as "cli".
	Name string
	// Permissions is what the actor holds, and so may grant.
	Permissions []string
	// IsSystem gives every permission of the admin plane, and the right to
	// grant any permission and IsSystem itself.
	IsSystem bool
}

// CLI is whoever has the store in hands: the command line on its machine.
func CLI() Actor { return Actor{Name: "cli", IsSystem: true} }

func actorOf(identity *verify.Identity) Actor {
	return Actor{
		Key:         identity.ID,
		Name:        identity.ID.String(),
		Permissions: identity.Permissions,
		IsSystem:    identity.IsSystem,
	}
}

// acting has the store lock and read the acting key in the transaction of a
// write, and check what it may do as it is then.
func (a Actor) acting(now func() time.Time, check func(Actor) error) *store.Acting {
	if a.Key == (store.ID{}) {
		return nil
	}
	return &store.Acting{ID: a.Key, Allow: func(key *store.Key) error {
		if key.Expired(now()) {
			return store.ErrActorGone
		}
		return check(Actor{Key: key.ID, Name: a.Name, Permissions: key.Permissions, IsSystem: key.IsSystem})
	}}
}

func (a Actor) holds(permission string) bool {
	return slices.Contains(a.Permissions, permission)
}

// may returns nil if the actor may make calls that need the permission.
func (a Actor) may(permission string) error {
	if a.IsSystem || a.holds(permission) {
		return nil
	}
	return fmt.Errorf("%w: %s is needed", ErrForbidden, permission)
}

// grant returns nil if the actor may give these away. Nobody gives what they do
// not hold; is_system is about the admin plane and holds everything there is to
// give.
func (a Actor) grant(permissions []string, isSystem bool) error {
	if a.IsSystem {
		return nil
	}
	if isSystem {
		return fmt.Errorf("%w: is_system", ErrEscalation)
	}
	for _, p := range permissions {
		if !a.holds(p) {
			return fmt.Errorf("%w: %s", ErrEscalation, p)
		}
	}
	return nil
}
