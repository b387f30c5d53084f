package graphql

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/graph-gophers/graphql-go"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// callKey is the key of the [call] in a context.
type callKey struct{}

// call is the request that brought a document. All fields of the document share it.
type call struct {
	r *http.Request
	x *admin.Exchange
}

// callOf returns the call of a resolver. Every document is executed with one.
//
// The library gives resolvers nothing but the context, so the request travels in it.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// fieldError is the error of one field. It says what the REST API would have answered. The other
// fields of the document are answered all the same.
type fieldError struct {
	*gate.Refusal
	requestID string
}

// Extensions implements what the library looks for.
func (e fieldError) Extensions() map[string]any { return extensions(e.Refusal, e.requestID) }

// failed makes the error of a field, and reports it to the log or the audit log. Call it once for
// an error.
func (c *call) failed(err error) error {
	return fieldError{c.x.Report(c.r, err), c.x.Request.ID}
}

// resolvers are the root fields. Each field does what a call of the REST API does, by the same
// rules. It turns its arguments into [admin.Parameters] or an input of package admin, which
// check them. The library calls queries at the same time, and mutations one after the other.
type resolvers struct{}

// keyListArgs are the arguments of adminSystemKeys. The schema has the defaults of Limit
// and Sort.
type keyListArgs struct {
	Limit          int32
	Cursor         *string
	Sort           string
	Q              *string
	UnusedSince    *graphql.Time
	ExpiringBefore *graphql.Time
	Expired        bool
}

// AdminSystemKeys is the field of that name.
func (resolvers) AdminSystemKeys(ctx context.Context, args keyListArgs) (*keyList, error) {
	c := callOf(ctx)
	// The numbers go back to text, so that the checks and their messages are those of REST.
	p := admin.Parameters{"limit": strconv.Itoa(int(args.Limit)), "sort": args.Sort, "expired": strconv.FormatBool(args.Expired)}
	set(p, "cursor", args.Cursor)
	set(p, "q", args.Q)
	setTime(p, "unused_since", args.UnusedSince)
	setTime(p, "expiring_before", args.ExpiringBefore)
	query, err := admin.KeyQuery(p, c.x.Service.Now())
	if err != nil {
		return nil, c.failed(err)
	}
	ctx, cancel := admin.Bounded(ctx)
	defer cancel()
	page, err := c.x.Service.List(ctx, c.x.Actor, query)
	if err != nil {
		return nil, c.failed(err)
	}
	list := &keyList{Total: int32(page.Total), Data: []key{}}
	for i := range page.Keys {
		list.Data = append(list.Data, key{admin.ShowKey(&page.Keys[i])})
	}
	if next := admin.CursorText(page.Next); next != "" {
		list.Next = &next
	}
	return list, nil
}

// auditListArgs are the arguments of adminAuditLog. The schema has the default of Limit.
type auditListArgs struct {
	KeyID        *graphql.ID
	Label        *string
	Event        *string
	Actor        *string
	Since, Until *graphql.Time
	Limit        int32
	Cursor       *string
}

// AdminAuditLog is the field of that name.
func (resolvers) AdminAuditLog(ctx context.Context, args auditListArgs) (*recordList, error) {
	c := callOf(ctx)
	p := admin.Parameters{"limit": strconv.Itoa(int(args.Limit))}
	set(p, "key_id", (*string)(args.KeyID))
	set(p, "label", args.Label)
	set(p, "event", args.Event)
	set(p, "actor", args.Actor)
	set(p, "cursor", args.Cursor)
	setTime(p, "since", args.Since)
	setTime(p, "until", args.Until)
	query, err := admin.AuditQuery(p)
	if err != nil {
		return nil, c.failed(err)
	}
	ctx, cancel := admin.Bounded(ctx)
	defer cancel()
	page, err := c.x.Service.AuditLog(ctx, c.x.Actor, query)
	if err != nil {
		return nil, c.failed(err)
	}
	list := &recordList{Total: int32(page.Total), More: page.More, Data: []record{}}
	for i := range page.Records {
		list.Data = append(list.Data, record{admin.ShowAudit(&page.Records[i])})
	}
	if next := admin.AuditCursor(page); next != "" {
		list.Next = &next
	}
	return list, nil
}

// AdminSystemKeyActivity is the field of that name.
func (resolvers) AdminSystemKeyActivity(ctx context.Context, args struct{ ID graphql.ID }) (*activity, error) {
	c := callOf(ctx)
	id, err := store.ParseKeyID(string(args.ID))
	if err != nil { // what is no id names no key
		return nil, c.failed(errors.Join(store.ErrNotFound, err))
	}
	ctx, cancel := admin.Bounded(ctx)
	defer cancel()
	_, found, err := c.x.Service.Activity(ctx, c.x.Actor, id)
	if err != nil {
		return nil, c.failed(err)
	}
	return &activity{admin.ShowActivity(found)}, nil
}

// createArgs are the arguments of adminCreateSystemKey.
//
// Optional members are pointers, as the library has them.
type createArgs struct {
	Input struct {
		Label       string
		Permissions *[]string
		ExpiresAt   *graphql.Time
		IsSystem    *bool
		Networks    *[]string
	}
}

// AdminCreateSystemKey is the field of that name.
func (resolvers) AdminCreateSystemKey(ctx context.Context, args createArgs) (*key, error) {
	c := callOf(ctx)
	input := admin.CreateInput{Label: &args.Input.Label}
	if args.Input.Permissions != nil {
		input.Permissions = *args.Input.Permissions
	}
	if args.Input.Networks != nil {
		input.Networks = *args.Input.Networks
	}
	if args.Input.ExpiresAt != nil {
		input.ExpiresAt = &admin.Instant{Time: args.Input.ExpiresAt.Time}
	}
	input.IsSystem = args.Input.IsSystem != nil && *args.Input.IsSystem
	// No permission is checked before, unlike in REST: the library has read all arguments by
	// now.
	want, err := input.Key()
	if err != nil {
		return nil, c.failed(err)
	}
	ctx, cancel := admin.Detached(ctx)
	defer cancel()
	minted, plain, err := c.x.Service.Create(ctx, c.x.Actor, want)
	if err != nil {
		return nil, c.failed(err)
	}
	return newKey(minted, plain), nil
}

// newKey is a key in clear, for the only time. If the document does not select the field key,
// nobody gets to see it.
func newKey(minted *store.Key, plain string) *key {
	created := &key{admin.ShowKey(minted)}
	created.Key = plain
	return created
}

// rotateArgs are the arguments of adminRotateSystemKey.
type rotateArgs struct {
	ID              graphql.ID
	Grace, Deadline *string
	Now             *bool
}

// AdminRotateSystemKey is the field of that name.
func (resolvers) AdminRotateSystemKey(ctx context.Context, args rotateArgs) (*key, error) {
	c := callOf(ctx)
	id, err := store.ParseKeyID(string(args.ID))
	if err != nil { // what is no id names no key
		return nil, c.failed(errors.Join(store.ErrNotFound, err))
	}
	input := admin.RotateInput{Grace: args.Grace, Deadline: args.Deadline, Now: args.Now != nil && *args.Now}
	want, err := input.Options()
	if err != nil {
		return nil, c.failed(err)
	}
	// The bound is for the write. The wait behind it takes as long as it takes.
	rotating, cancel := admin.Detached(ctx)
	defer cancel()
	rotation, err := c.x.Service.Rotate(rotating, c.x.Actor, id, want)
	if err != nil {
		return nil, c.failed(err)
	}
	if err := rotation.Wait(context.WithoutCancel(ctx)); err != nil {
		return nil, c.failed(err)
	}
	return newKey(rotation.Key, rotation.Plain), nil
}

// AdminDeleteSystemKey is the field of that name.
func (resolvers) AdminDeleteSystemKey(ctx context.Context, args struct{ ID graphql.ID }) (*revocation, error) {
	c := callOf(ctx)
	id, err := store.ParseKeyID(string(args.ID))
	if err != nil { // what is no id names no key
		return nil, c.failed(errors.Join(store.ErrNotFound, err))
	}
	deleting, cancel := admin.Detached(ctx)
	defer cancel()
	deleted, err := c.x.Service.Revoke(deleting, c.x.Actor, id)
	if err != nil {
		return nil, c.failed(err)
	}
	// The key is gone. The wait goes on if the client goes away, as for the REST API.
	revoked, err := deleted.Wait(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, c.failed(err)
	}
	return &revocation{admin.ShowRevoked(revoked)}, nil
}

// deleteKeysArgs are the arguments of adminDeleteSystemKeys.
type deleteKeysArgs struct {
	CreatedBy    *string
	CreatedSince *graphql.Time
	LabelPrefix  *string
	Permission   *string
	Except       *[]graphql.ID
	DryRun       bool
}

// AdminDeleteSystemKeys is the field of that name.
func (resolvers) AdminDeleteSystemKeys(ctx context.Context, args deleteKeysArgs) (*revocations, error) {
	c := callOf(ctx)
	p := admin.Parameters{}
	set(p, "created_by", args.CreatedBy)
	setTime(p, "created_since", args.CreatedSince)
	set(p, "label_prefix", args.LabelPrefix)
	set(p, "permission", args.Permission)
	var except []string
	if args.Except != nil {
		for _, id := range *args.Except {
			except = append(except, string(id))
		}
	}
	shown, err := c.deleteKeys(ctx, p, except, args.DryRun)
	if err != nil {
		return nil, c.failed(err)
	}
	return &revocations{shown}, nil
}

// deleteKeys does what a DELETE of the list of keys does in the REST API. The permission comes
// first: whoever lacks it learns nothing about the filter.
func (c *call) deleteKeys(ctx context.Context, p admin.Parameters, except []string, dryRun bool) (shown admin.RevokedKeysJSON, err error) {
	if err := c.x.Service.Allow(c.x.Actor, admin.PermissionDelete); err != nil {
		return shown, err
	}
	filter, err := admin.RevokeFilter(p, except)
	if err != nil {
		return shown, err
	}
	deleting, cancel := admin.Detached(ctx)
	defer cancel()
	if dryRun {
		keys, err := c.x.Service.Matching(deleting, c.x.Actor, filter)
		return admin.ShowMatching(keys), err
	}
	deleted, err := c.x.Service.RevokeMany(deleting, c.x.Actor, filter)
	if err != nil {
		return shown, err
	}
	revoked, err := deleted.Wait(context.WithoutCancel(ctx), nil)
	if err != nil {
		return shown, err
	}
	return admin.ShowRevokedKeys(revoked), nil
}

// set adds a parameter that the document has.
func set(p admin.Parameters, name string, value *string) {
	if value != nil {
		p[name] = *value
	}
}

// setTime adds a time that the document has. It is written with all digits, and read again by
// the rules of the REST API.
func setTime(p admin.Parameters, name string, value *graphql.Time) {
	if value != nil {
		p[name] = value.Format(time.RFC3339Nano)
	}
}
