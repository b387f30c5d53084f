package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ogen-go/ogen/ogenerrors"

	keys "github.com/lumio-vision/caddy-system-keys/clients/generated/ogen"
)

// bearer presents a system key. The document names two ways to authenticate, and a call needs
// one of them.
type bearer string

func (b bearer) SystemKey(context.Context, keys.OperationName) (keys.SystemKey, error) {
	return keys.SystemKey{Token: string(b)}, nil
}

// PersonToken says that there is none, so the client takes the other way.
func (bearer) PersonToken(context.Context, keys.OperationName) (keys.PersonToken, error) {
	return keys.PersonToken{}, ogenerrors.ErrSkipClientSecurity
}

// is returns an answer if it is of the type that is expected of it. The client of ogen returns
// refusals as answers and not as errors, each of its own type.
//
// The zero value of T comes with an error, and nothing may be read of it.
func is[T any](answer any, err error) (T, error) {
	right, ok := answer.(T)
	if err == nil && !ok {
		err = fmt.Errorf("ogen: the answer is %T, not %T: %+v", answer, right, answer)
	}
	return right, err
}

// callByOgen is callByOapi with the client of ogen. It sends members that are optional or may be
// null, which the generators treat in different ways.
//
// The GraphQL document has two operations, so the name in the request must arrive.
func callByOgen(ctx context.Context, url, key string) error {
	admin, err := keys.NewClient(url, bearer(key))
	if err != nil {
		return err
	}
	created, err := is[*keys.CreatedKeyEnvelopeHeaders](admin.CreateSystemKey(ctx, &keys.NewKey{
		Label: "ogen", Permissions: keys.NewOptNilPermissionArray([]keys.Permission{"system-keys:rotate"}),
	}))
	if err != nil {
		return err
	}
	id := created.Response.Data.ID
	self, err := keys.NewClient(url, bearer(created.Response.Data.Key))
	if err != nil {
		return err
	}
	var problems []error
	expect := func(right bool, what string, answer any, err error) {
		if err != nil || !right {
			problems = append(problems, fmt.Errorf("ogen: %s: %w: %+v", what, errors.Join(err, errors.New("not as described")), answer))
		}
	}
	read, err := is[*keys.KeyEnvelopeHeaders](admin.GetSystemKey(ctx, keys.GetSystemKeyParams{ID: id}))
	expect(err == nil && read.Response.Data.Label == "ogen", "read", read, err)
	list, err := is[*keys.KeyListHeaders](admin.ListSystemKeys(ctx, keys.ListSystemKeysParams{Q: keys.NewOptString("oge"), Limit: keys.NewOptInt(5)}))
	expect(err == nil && len(list.Response.Data) == 1, "list", list, err)
	own, err := is[*keys.KeyEnvelopeHeaders](self.GetSelf(ctx))
	expect(err == nil && own.Response.Data.ID == id, "self", own, err)
	activity, err := is[*keys.ActivityEnvelopeHeaders](admin.GetSystemKeyActivity(ctx, keys.GetSystemKeyActivityParams{ID: id}))
	expect(err == nil, "activity", activity, err)
	rotated, err := is[*keys.CreatedKeyEnvelopeHeaders](self.RotateSelf(ctx, keys.OptRotateKey{}))
	expect(err == nil && rotated.Response.Data.Replaces.Value == id, "rotate self", rotated, err)
	again, err := is[*keys.CreatedKeyEnvelopeHeaders](admin.RotateSystemKey(ctx,
		keys.NewOptRotateKey(keys.RotateKey{Deadline: keys.NewOptNilString("2d")}), keys.RotateSystemKeyParams{ID: id}))
	expect(err == nil && again.Response.Data.Replaces.Value == id, "rotate", again, err)
	revoked, err := is[*keys.RevokedKeyEnvelopeHeaders](admin.DeleteSystemKey(ctx, keys.DeleteSystemKeyParams{ID: id}))
	expect(err == nil && revoked.Response.Data.ID == id, "revoke", revoked, err)
	many, err := is[*keys.RevokedKeysEnvelopeHeaders](admin.DeleteSystemKeys(ctx, keys.DeleteSystemKeysParams{
		LabelPrefix: keys.NewOptString("oge"), DryRun: keys.NewOptDeleteSystemKeysDryRun(keys.DeleteSystemKeysDryRunTrue),
	}))
	expect(err == nil, "revoke many", many, err)
	gone, err := is[*keys.NotFoundHeaders](admin.GetSystemKeyActivity(ctx, keys.GetSystemKeyActivityParams{ID: id}))
	expect(err == nil && gone.Response.Error.Code == "not_found", "of a key that is gone", gone, err)
	log, err := is[*keys.AuditListHeaders](admin.ListAuditLog(ctx, keys.ListAuditLogParams{KeyID: keys.NewOptUUID(id)}))
	expect(err == nil && len(log.Response.Data) > 1, "audit log", log, err)
	answer, err := is[*keys.GraphqlApplicationJSONOK](admin.Graphql(ctx, &keys.GraphQLRequest{
		Query: "query A { adminSystemKeys { total } } query B { adminAuditLog { total } }", OperationName: keys.NewOptNilString("A"),
	}))
	expect(err == nil && len(answer.Response.Data.Value) == 1 && answer.Response.Errors == nil, "GraphQL", answer, err)
	document, err := is[*keys.GetOpenAPIOK](admin.GetOpenAPI(ctx))
	expect(err == nil, "OpenAPI", document, err)
	schema, err := is[*keys.GetGraphQLSchemaOK](admin.GetGraphQLSchema(ctx))
	expect(err == nil, "the schema", schema, err)
	return errors.Join(problems...)
}
