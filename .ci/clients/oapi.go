package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	keys "github.com/lumio-vision/caddy-system-keys/clients/generated/oapi"
)

// callByOapi calls each operation of the OpenAPI document, with the client of oapi-codegen. It
// checks that the answer has the type that the document says, and mostly one value of it. The
// order is that of a key's life: created, read, rotated, revoked, gone.
//
// The key "oapi" has the permission to rotate itself alone, so its own calls show that they need
// no other. A call that fails does not end the run: the next one may say why. The two steps that
// all others need, a key and a client for it, end the run if they fail.
func callByOapi(ctx context.Context, url, key string) error {
	admin, err := oapiClient(url, key)
	if err != nil {
		return err
	}
	created, err := admin.CreateSystemKeyWithResponse(ctx, keys.NewKey{Label: "oapi", Permissions: &[]keys.Permission{"system-keys:rotate"}})
	if err != nil || created.JSON201 == nil {
		return fmt.Errorf("oapi-codegen: create: %w: %+v", err, created)
	}
	id := created.JSON201.Data.Id
	self, err := oapiClient(url, created.JSON201.Data.Key)
	if err != nil {
		return err
	}
	var problems []error
	// After an answer of another status, the field of the expected one is nil, and there is no
	// error.
	expect := func(right bool, what string, err error) {
		if err != nil || !right {
			problems = append(problems, fmt.Errorf("oapi-codegen: %s: %w", what, errors.Join(err, errors.New("not as described"))))
		}
	}
	read, err := admin.GetSystemKeyWithResponse(ctx, id)
	expect(err == nil && read.JSON200 != nil && read.JSON200.Data.Label == "oapi", "read", err)
	q, limit := "oap", 5
	list, err := admin.ListSystemKeysWithResponse(ctx, &keys.ListSystemKeysParams{Q: &q, Limit: &limit})
	expect(err == nil && list.JSON200 != nil && len(list.JSON200.Data) == 1, "list", err)
	own, err := self.GetSelfWithResponse(ctx)
	expect(err == nil && own.JSON200 != nil && own.JSON200.Data.Id == id, "self", err)
	activity, err := admin.GetSystemKeyActivityWithResponse(ctx, id)
	expect(err == nil && activity.JSON200 != nil, "activity", err)
	rotated, err := self.RotateSelfWithResponse(ctx, keys.RotateKey{})
	expect(err == nil && rotated.JSON201 != nil && *rotated.JSON201.Data.Replaces == id, "rotate self", err)
	again, err := admin.RotateSystemKeyWithResponse(ctx, id, keys.RotateKey{})
	expect(err == nil && again.JSON201 != nil && *again.JSON201.Data.Replaces == id, "rotate", err)
	revoked, err := admin.DeleteSystemKeyWithResponse(ctx, id, nil)
	expect(err == nil && revoked.JSON200 != nil && revoked.JSON200.Data.Id == id, "revoke", err)
	dry := keys.True
	many, err := admin.DeleteSystemKeysWithResponse(ctx, &keys.DeleteSystemKeysParams{LabelPrefix: &q, DryRun: &dry})
	expect(err == nil && many.JSON200 != nil, "revoke many", err)
	gone, err := admin.GetSystemKeyActivityWithResponse(ctx, id)
	expect(err == nil && gone.JSON404 != nil && gone.JSON404.Error.Code == "not_found", "of a key that is gone", err)
	log, err := admin.ListAuditLogWithResponse(ctx, &keys.ListAuditLogParams{KeyId: &id})
	expect(err == nil && log.JSON200 != nil && len(log.JSON200.Data) > 1, "audit log", err)
	answer, err := admin.GraphqlWithResponse(ctx, keys.GraphQLRequest{Query: "{ adminSystemKeys { total } }"})
	expect(err == nil && answer.JSON200 != nil && len(*answer.JSON200.Data) == 1, "GraphQL", err)
	document, err := admin.GetOpenAPIWithResponse(ctx)
	expect(err == nil && document.StatusCode() == http.StatusOK, "OpenAPI", err)
	schema, err := admin.GetGraphQLSchemaWithResponse(ctx)
	expect(err == nil && schema.StatusCode() == http.StatusOK, "the schema", err)
	return errors.Join(problems...)
}

// oapiClient makes a client that presents a key. The generated code leaves credentials to its
// caller.
func oapiClient(url, key string) (*keys.ClientWithResponses, error) {
	return keys.NewClientWithResponses(url, keys.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	}))
}
