package admin

import (
	"encoding/json"
	"time"

	"github.com/graph-gophers/graphql-go"
)

// The types of schema.graphql. Each is the view of the REST API. Its methods give the
// fields whose Go type is not one that the library has for the type of the schema.

type keyGQL struct{ KeyJSON }

func (k keyGQL) ID() graphql.ID            { return graphql.ID(k.KeyJSON.ID.String()) }
func (k keyGQL) CreatedAt() graphql.Time   { return graphql.Time{Time: k.KeyJSON.CreatedAt} }
func (k keyGQL) ExpiresAt() *graphql.Time  { return timeGQL(k.KeyJSON.ExpiresAt) }
func (k keyGQL) LastUsedAt() *graphql.Time { return timeGQL(k.KeyJSON.LastUsedAt) }

type keyListGQL struct {
	Data  []keyGQL
	Total int32
	Next  *string
}

type revokedGQL struct{ RevokedJSON }

func (r revokedGQL) ID() graphql.ID          { return graphql.ID(r.RevokedJSON.ID.String()) }
func (r revokedGQL) RevokedAt() graphql.Time { return graphql.Time{Time: r.RevokedJSON.RevokedAt} }

type auditListGQL struct {
	Data  []auditGQL
	Total int32
	More  bool
	Next  *string
}

type auditGQL struct{ AuditJSON }

func (a auditGQL) ID() graphql.ID      { return graphql.ID(a.AuditJSON.ID.String()) }
func (a auditGQL) Event() string       { return string(a.AuditJSON.Event) }
func (a auditGQL) At() graphql.Time    { return graphql.Time{Time: a.AuditJSON.At} }
func (a auditGQL) Details() jsonObject { return jsonObject(a.AuditJSON.Details) }

func (a auditGQL) Key() *auditKeyGQL {
	if a.AuditJSON.Key == nil {
		return nil
	}
	return &auditKeyGQL{*a.AuditJSON.Key}
}

type auditKeyGQL struct{ AuditKeyJSON }

func (k auditKeyGQL) ID() graphql.ID { return graphql.ID(k.AuditKeyJSON.ID.String()) }

func timeGQL(t *time.Time) *graphql.Time {
	if t == nil {
		return nil
	}
	return &graphql.Time{Time: *t}
}

// jsonObject is the scalar JSON.
type jsonObject json.RawMessage

// ImplementsGraphQLType implements [decode.Unmarshaler] of the library.
func (jsonObject) ImplementsGraphQLType(name string) bool { return name == "JSON" }

// UnmarshalGraphQL implements it too. No input has this scalar.
func (*jsonObject) UnmarshalGraphQL(any) error {
	return badRequest("JSON is not taken as an input")
}

// MarshalJSON implements [json.Marshaler].
func (j jsonObject) MarshalJSON() ([]byte, error) { return j, nil }
