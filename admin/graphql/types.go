package graphql

import (
	"encoding/json"
	"time"

	"github.com/graph-gophers/graphql-go"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// The types of schema.graphql. Each is the view of the REST API. Its methods give the
// fields whose Go type is not one that the library has for the type of the schema.

type key struct{ admin.KeyJSON }

func (k key) ID() graphql.ID            { return graphql.ID(k.KeyJSON.ID.String()) }
func (k key) CreatedAt() graphql.Time   { return graphql.Time{Time: k.KeyJSON.CreatedAt} }
func (k key) ExpiresAt() *graphql.Time  { return timeOrNull(k.KeyJSON.ExpiresAt) }
func (k key) LastUsedAt() *graphql.Time { return timeOrNull(k.KeyJSON.LastUsedAt) }

// keyList is a page of keys. Next is the cursor of the next page, or null.
type keyList struct {
	Data  []key
	Total int32
	Next  *string
}

type revocation struct{ admin.RevokedJSON }

func (r revocation) ID() graphql.ID          { return graphql.ID(r.RevokedJSON.ID.String()) }
func (r revocation) RevokedAt() graphql.Time { return graphql.Time{Time: r.RevokedJSON.RevokedAt} }

// revocations is the revocation of many keys. After a dry run it has no outcome.
type revocations struct{ shown admin.RevokedKeysJSON }

func (r revocations) Keys() []namedKey {
	keys := make([]namedKey, 0, len(r.shown.Keys))
	for _, key := range r.shown.Keys {
		keys = append(keys, namedKey{key})
	}
	return keys
}

func (r revocations) Total() int32 { return r.shown.Total }

func (r revocations) RevokedAt() *graphql.Time {
	if r.shown.OutcomeJSON == nil {
		return nil
	}
	return &graphql.Time{Time: r.shown.RevokedAt}
}

func (r revocations) Instances() *admin.InstancesJSON {
	if r.shown.OutcomeJSON == nil {
		return nil
	}
	return &r.shown.Instances
}

func (r revocations) RequestsCut() *int32 {
	if r.shown.OutcomeJSON == nil {
		return nil
	}
	return &r.shown.RequestsCut
}

type namedKey struct{ admin.NamedKeyJSON }

func (k namedKey) ID() graphql.ID { return graphql.ID(k.NamedKeyJSON.ID.String()) }

// recordList is a page of the audit log. More says that Total is not all.
type recordList struct {
	Data  []record
	Total int32
	More  bool
	Next  *string
}

type record struct{ admin.AuditJSON }

func (a record) ID() graphql.ID      { return graphql.ID(a.AuditJSON.ID.String()) }
func (a record) Event() string       { return string(a.AuditJSON.Event) }
func (a record) At() graphql.Time    { return graphql.Time{Time: a.AuditJSON.At} }
func (a record) Details() jsonObject { return jsonObject(a.AuditJSON.Details) }

func (a record) Key() *recordKey {
	if a.AuditJSON.Key == nil {
		return nil
	}
	return &recordKey{*a.AuditJSON.Key}
}

// recordKey is the key that a record is about.
type recordKey struct{ admin.AuditKeyJSON }

func (k recordKey) ID() graphql.ID { return graphql.ID(k.AuditKeyJSON.ID.String()) }

func timeOrNull(t *time.Time) *graphql.Time {
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
	return admin.BadRequest("JSON is not taken as an input")
}

// MarshalJSON implements [json.Marshaler].
func (j jsonObject) MarshalJSON() ([]byte, error) { return j, nil }
