package verify

import (
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Identity is who called. It is shared by all requests of a key and must not
// be changed.
type Identity struct {
	ID          store.ID
	Label       string
	Permissions []string // sorted
	IsSystem    bool
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Headers are the values that the upstream receives, rendered once.
	Headers header.Values

	// Boxed are the values of Caddy's placeholders, boxed once so that setting
	// them costs a request no allocation.
	Boxed Boxed
}

// Boxed holds the identity's text as interface values.
type Boxed struct {
	ID, Label, Permissions any
}

// Has reports whether the key itself holds the permission. What IsSystem gives
// is not counted: it is for the admin plane alone.
func (id *Identity) Has(permission string) bool {
	_, found := slices.BinarySearch(id.Permissions, permission)
	return found
}

func (id *Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// IdentityOf is who calls with a key.
func IdentityOf(key *store.Key) *Identity {
	id := key.ID.String()
	permissions := slices.Sorted(slices.Values(key.Permissions))
	return &Identity{
		ID:          key.ID,
		Label:       key.Label,
		Permissions: permissions,
		IsSystem:    key.IsSystem,
		ExpiresAt:   key.ExpiresAt,
		Headers:     header.Render(id, key.Label, permissions),
		Boxed:       Boxed{ID: id, Label: key.Label, Permissions: strings.Join(permissions, ",")},
	}
}
