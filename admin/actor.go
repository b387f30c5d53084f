package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The permissions of the admin plane. They are part of keys that exist, so they never change.
const (
	PermissionRead   = "system-keys:read"
	PermissionCreate = "system-keys:create"
	PermissionDelete = "system-keys:delete"
	PermissionAudit  = "audit-log:read"
	// PermissionRotate lets a key rotate itself, and nothing else.
	PermissionRotate = "system-keys:rotate"
	// PermissionAccess is needed for the System page, beside the permission for each
	// call.
	PermissionAccess = "admin:access"
)

// The errors of [Service] beside those of package store.
var (
	// ErrForbidden says that the actor lacks the permission for the call.
	ErrForbidden = errors.New("permission denied")
	// ErrEscalation says that the actor wants to grant what it does not hold.
	ErrEscalation = errors.New("a grant beyond the caller's own permissions")
)

// Actor is who acts on the admin plane. It is a copy, made for one request: a change of the
// acting key shows only where the store reads that key again.
type Actor struct {
	// Key is the acting key, or zero if the actor is no key. A write reads this key
	// again in its own transaction: it may have changed since the request came in.
	Key store.ID
	// Type is one of the kinds of [store.AuditActor].
	Type string
	// Name is the actor's id in the audit log: the id of the acting key, the subject
	// of a token, or a word such as "cli".
	Name string
	// Label is for people, and may be empty.
	Label string
	// Permissions is what the actor holds, and so may grant.
	Permissions []string
	// IsSystem gives every permission of the admin plane, and the right to
	// grant any permission and IsSystem itself.
	IsSystem bool
	// Request is the actor's request, for the audit log. Its status is that of
	// success. It is zero on the command line.
	Request store.AuditRequest
}

// CLI is the command line. Whoever runs it has the store itself, so nothing is refused here that
// the store would allow.
func CLI() Actor { return Command("cli") }

// Command is a command of the program that acts under a name of its own. The name is the actor's
// id in the audit log, and the creator of the keys that it mints.
func Command(name string) Actor { return Actor{Type: store.ActorCLI, Name: name, IsSystem: true} }

// KeyActor is the actor that presents a system key.
func KeyActor(identity *verify.Identity) Actor {
	return Actor{
		Key:         identity.ID,
		Type:        store.ActorKey,
		Name:        identity.ID.String(),
		Label:       identity.Label,
		Permissions: identity.Permissions,
		IsSystem:    identity.IsSystem,
	}
}

// creator is what a minted key has as its creator: a key's id or a word. The name of a
// person gets a prefix. Otherwise a token could claim to be a key by its subject.
func (a Actor) creator() string {
	if a.Type == store.ActorUser {
		return "user:" + a.Name
	}
	return a.Name
}

// record makes the audit record of what the actor does to a key. Status is that of the answer,
// which is not sent yet. A record of no request has none.
func (a Actor) record(event store.AuditEvent, key *store.Key, at time.Time, status int, details map[string]any) store.AuditRecord {
	request := a.Request
	if request != (store.AuditRequest{}) {
		request.Status = status
	}
	return store.AuditRecord{
		Event:   event,
		At:      at,
		Actor:   store.AuditActor{Type: a.Type, ID: a.Name, Label: a.Label},
		Key:     store.AuditKey{ID: key.ID, Label: key.Label},
		Request: request,
		Details: encodeDetails(details),
	}
}

// encodeDetails makes the JSON that the audit log keeps. No details are nil.
func encodeDetails(details map[string]any) json.RawMessage {
	if len(details) == 0 {
		return nil
	}
	b, err := json.Marshal(details)
	if err != nil { // texts, numbers, times and lists of them always encode
		panic(err)
	}
	return b
}

// acting makes the store lock and read the acting key in the transaction of a write, and check
// what the key may do at that moment. It is nil for an actor without a key. The permissions of a
// person are those of the request: there is no row to read.
func (a Actor) acting(now func() time.Time, check func(Actor) error) *store.Acting {
	if a.Key == (store.ID{}) {
		return nil
	}
	return &store.Acting{ID: a.Key, Allow: func(key *store.Key) error {
		if key.Expired(now()) {
			return store.ErrActorGone
		}
		if !key.Networks.Allow(a.Request.ClientIP) {
			return gate.OtherNetwork()
		}
		now := a
		now.Permissions, now.IsSystem = key.Permissions, key.IsSystem
		return check(now)
	}}
}

// holds reports whether the permission is on the actor's own list. IsSystem does not
// count.
func (a Actor) holds(permission string) bool {
	return slices.Contains(a.Permissions, permission)
}

// May returns nil if the actor may make calls that need the permission. The error is a
// [*LackError].
func (a Actor) May(permission string) error {
	if a.IsSystem || a.holds(permission) {
		return nil
	}
	return &LackError{permission}
}

// MayRotate returns nil if the actor may rotate keys that hold no more than the actor does. A
// rotation creates a key and ends one. The error is a [*LackError].
func (a Actor) MayRotate() error {
	return cmp.Or(a.May(PermissionCreate), a.May(PermissionDelete))
}

// LackError is [ErrForbidden] for want of a permission. The caller is told which one, as that is
// no secret: the documentation lists them.
type LackError struct{ Permission string }

// Error implements [error].
func (e *LackError) Error() string { return ErrForbidden.Error() + ": " + e.Permission + " is needed" }

// Unwrap returns [ErrForbidden].
func (e *LackError) Unwrap() error { return ErrForbidden }

// mayCreate returns nil if the actor may create this key. It runs when the call comes in, and
// once more in the transaction.
func (a Actor) mayCreate(key *store.Key) error {
	if err := a.May(PermissionCreate); err != nil {
		return err
	}
	return a.Grant(key.Permissions, key.IsSystem)
}

// Grant returns nil if the actor may grant these permissions. Nobody grants a permission that
// they do not hold. A system admin may grant everything. Without this rule, whoever may create
// keys could create one that may do more, and use that. The error is [ErrEscalation].
func (a Actor) Grant(permissions []string, isSystem bool) error {
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
