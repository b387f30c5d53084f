package graphql

import (
	"encoding/json"
	"math"
	"time"

	"github.com/graph-gophers/graphql-go"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The types of schema.graphql. Each is the view of the REST API. Its methods give the
// fields whose Go type is not one that the library has for the type of the schema.

// key is SystemKey, and CreatedSystemKey if it has the key in clear.
type key struct{ admin.KeyJSON }

func (k key) ID() graphql.ID            { return graphql.ID(k.KeyJSON.ID.String()) }
func (k key) CreatedAt() graphql.Time   { return graphql.Time{Time: k.KeyJSON.CreatedAt} }
func (k key) ExpiresAt() *graphql.Time  { return timeOrNull(k.KeyJSON.ExpiresAt) }
func (k key) LastUsedAt() *graphql.Time { return timeOrNull(k.KeyJSON.LastUsedAt) }
func (k key) Replaces() *graphql.ID     { return idOrNull(k.KeyJSON.Replaces) }
func (k key) ReplacedBy() *graphql.ID   { return idOrNull(k.KeyJSON.ReplacedBy) }

// keyList is a page of keys. Next is the cursor of the next page, or null.
//
// A client gives the cursor as an argument to get that page.
type keyList struct {
	Data  []key
	Total int32
	Next  *string
}

// revocation is the end of a wait, so RevokedAt is always there.
type revocation struct{ admin.RevokedJSON }

func (r revocation) ID() graphql.ID          { return graphql.ID(r.RevokedJSON.ID.String()) }
func (r revocation) RevokedAt() graphql.Time { return graphql.Time{Time: r.RevokedJSON.RevokedAt} }
func (r revocation) AlsoRevoked() []namedKey { return namedKeys(r.RevokedJSON.AlsoRevoked) }
func (r revocation) ReplacedBy() *graphql.ID { return idOrNull(r.RevokedJSON.ReplacedBy) }

// revocations is the revocation of many keys. After a dry run it has no outcome.
type revocations struct{ shown admin.RevokedKeysJSON }

func (r revocations) Keys() []namedKey { return namedKeys(r.shown.Keys) }

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

// namedKey is a key that is gone, or would be.
type namedKey struct{ admin.NamedKeyJSON }

func namedKeys(shown []admin.NamedKeyJSON) []namedKey {
	keys := make([]namedKey, 0, len(shown))
	for _, key := range shown {
		keys = append(keys, namedKey{key})
	}
	return keys
}

func (k namedKey) ID() graphql.ID { return graphql.ID(k.NamedKeyJSON.ID.String()) }

// activity is what a key is used for.
type activity struct{ shown admin.ActivityJSON }

func (a activity) FirstUsedAt() *graphql.Time { return timeOrNull(a.shown.FirstUsedAt) }
func (a activity) LastUsedAt() *graphql.Time  { return timeOrNull(a.shown.LastUsedAt) }

func (a activity) Days() []day {
	days := make([]day, 0, len(a.shown.Days))
	for _, d := range a.shown.Days {
		days = append(days, day{d.Day.String(), integer(d.Requests), integer(d.Denied)})
	}
	return days
}

func (a activity) Networks() []networkUse {
	networks := make([]networkUse, 0, len(a.shown.Networks))
	for _, n := range a.shown.Networks {
		networks = append(networks, networkUse{
			n.Network.String(), graphql.Time{Time: n.FirstAt}, graphql.Time{Time: n.LastAt}, integer(n.Requests),
		})
	}
	return networks
}

func (a activity) Permissions() []askedPermission {
	asked := make([]askedPermission, 0, len(a.shown.Permissions))
	for _, p := range a.shown.Permissions {
		asked = append(asked, askedPermission{p.Permission, graphql.Time{Time: p.LastRequiredAt}})
	}
	return asked
}

// day counts the requests of one day. The library reads its fields by their names.
type day struct {
	Day              string
	Requests, Denied int32
}

// networkUse counts the requests from one network.
type networkUse struct {
	Network         string
	FirstAt, LastAt graphql.Time
	Requests        int32
}

// askedPermission is a permission that was asked of the key.
type askedPermission struct {
	Permission     string
	LastRequiredAt graphql.Time
}

// integer is an Int of GraphQL, which has 32 bits. A greater number becomes the greatest.
//
// An error in its place would hide the rest of the answer.
func integer(n int64) int32 { return int32(min(n, math.MaxInt32)) }

// recordList is a page of the audit log. More says that Total is not all.
type recordList struct {
	Data  []record
	Total int32
	More  bool
	Next  *string
}

// record is an audit record. Its details are JSON as they are stored.
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

// timeOrNull gives a time the type of the library. Nil is null.
func timeOrNull(t *time.Time) *graphql.Time {
	if t == nil {
		return nil
	}
	return &graphql.Time{Time: *t}
}

// idOrNull gives an id the type of the library. Nil is null.
func idOrNull(id *store.ID) *graphql.ID {
	if id == nil {
		return nil
	}
	text := graphql.ID(id.String())
	return &text
}

// jsonObject is the scalar JSON. The details of a record differ from event to event, so no type
// of the schema fits them.
type jsonObject json.RawMessage

// ImplementsGraphQLType implements [decode.Unmarshaler] of the library.
func (jsonObject) ImplementsGraphQLType(name string) bool { return name == "JSON" }

// UnmarshalGraphQL implements it too. No input has this scalar.
func (*jsonObject) UnmarshalGraphQL(any) error {
	return admin.BadRequest("JSON is not taken as an input")
}

// MarshalJSON implements [json.Marshaler].
func (j jsonObject) MarshalJSON() ([]byte, error) { return j, nil }
