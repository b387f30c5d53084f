package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/graph-gophers/graphql-go"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// resolving is the key of the call in a context.
type resolving struct{}

// graphQLCall is the request that a document came in.
type graphQLCall struct {
	r *http.Request
	x *exchange
}

func callOf(ctx context.Context) *graphQLCall {
	c, _ := ctx.Value(resolving{}).(*graphQLCall)
	return c
}

// fieldError is an error of one field: what the REST API would have answered.
type fieldError struct {
	*gate.Refusal
	requestID string
}

// Extensions implements what the library looks for.
func (e fieldError) Extensions() map[string]any { return extensions(e.Refusal, e.requestID) }

// failed makes an error of a field, and tells the logs of it.
func (c *graphQLCall) failed(err error) error {
	return fieldError{c.x.handler.report(c.r, c.x, err), c.x.request.ID}
}

// resolvers are the root fields. Each does what a call of the REST API does, by
// the same rules.
type resolvers struct{}

type keyListArgs struct {
	Limit       int32
	Cursor      *string
	Sort        string
	Q           *string
	UnusedSince *graphql.Time
}

// AdminSystemKeys is the field of that name.
func (resolvers) AdminSystemKeys(ctx context.Context, args keyListArgs) (*keyListGQL, error) {
	c := callOf(ctx)
	p := parameters{"limit": strconv.Itoa(int(args.Limit)), "sort": args.Sort}
	p.set("cursor", args.Cursor)
	p.set("q", args.Q)
	p.setTime("unused_since", args.UnusedSince)
	query, err := keyQuery(p)
	if err != nil {
		return nil, c.failed(err)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err := c.x.service.List(ctx, c.x.actor, query)
	if err != nil {
		return nil, c.failed(err)
	}
	list := &keyListGQL{Total: int32(page.Total), Data: []keyGQL{}}
	for i := range page.Keys {
		list.Data = append(list.Data, keyGQL{ShowKey(&page.Keys[i])})
	}
	if page.Next != nil {
		next := page.Next.Encode()
		list.Next = &next
	}
	return list, nil
}

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
func (resolvers) AdminAuditLog(ctx context.Context, args auditListArgs) (*auditListGQL, error) {
	c := callOf(ctx)
	p := parameters{"limit": strconv.Itoa(int(args.Limit))}
	p.set("key_id", (*string)(args.KeyID))
	p.set("label", args.Label)
	p.set("event", args.Event)
	p.set("actor", args.Actor)
	p.set("cursor", args.Cursor)
	p.setTime("since", args.Since)
	p.setTime("until", args.Until)
	query, err := auditQuery(p)
	if err != nil {
		return nil, c.failed(err)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err := c.x.service.AuditLog(ctx, c.x.actor, query)
	if err != nil {
		return nil, c.failed(err)
	}
	list := &auditListGQL{Total: int32(page.Total), More: page.More, Data: []auditGQL{}, Next: textOrNull(auditCursor(page))}
	for i := range page.Records {
		list.Data = append(list.Data, auditGQL{ShowAudit(&page.Records[i])})
	}
	return list, nil
}

type createArgs struct {
	Input struct {
		Label       string
		Permissions *[]string
		ExpiresAt   *graphql.Time
		IsSystem    *bool
	}
}

// AdminCreateSystemKey is the field of that name.
func (resolvers) AdminCreateSystemKey(ctx context.Context, args createArgs) (*keyGQL, error) {
	c := callOf(ctx)
	input := createInput{Label: &args.Input.Label}
	if args.Input.Permissions != nil {
		input.Permissions = *args.Input.Permissions
	}
	if args.Input.ExpiresAt != nil {
		input.ExpiresAt = &instant{args.Input.ExpiresAt.Time}
	}
	input.IsSystem = args.Input.IsSystem != nil && *args.Input.IsSystem
	want, err := input.key()
	if err != nil {
		return nil, c.failed(err)
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	key, plain, err := c.x.service.Create(ctx, c.x.actor, want)
	if err != nil {
		return nil, c.failed(err)
	}
	created := &keyGQL{ShowKey(key)}
	created.Key = plain
	return created, nil
}

// AdminDeleteSystemKey is the field of that name.
func (resolvers) AdminDeleteSystemKey(ctx context.Context, args struct{ ID graphql.ID }) (*revokedGQL, error) {
	c := callOf(ctx)
	id, err := store.ParseID(string(args.ID))
	if err != nil {
		return nil, c.failed(errors.Join(store.ErrNotFound, err))
	}
	deleting, cancel := detached(ctx)
	defer cancel()
	revocation, err := c.x.service.Revoke(deleting, c.x.actor, id)
	if err != nil {
		return nil, c.failed(err)
	}
	revoked, err := revocation.Wait(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, c.failed(err)
	}
	return &revokedGQL{ShowRevoked(revoked)}, nil
}

func (p parameters) set(name string, value *string) {
	if value != nil {
		p[name] = *value
	}
}

func (p parameters) setTime(name string, value *graphql.Time) {
	if value != nil {
		p[name] = value.Format(time.RFC3339Nano)
	}
}
