package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// KeyJSON is a key as the API, and the command line with --json, show it. The
// members that may be null are always there.
//
// It has no hash, and no field for one: what is not here cannot be shown by mistake.
type KeyJSON struct {
	ID          store.ID   `json:"id"`
	Label       string     `json:"label"`
	Permissions []string   `json:"permissions"`
	IsSystem    bool       `json:"is_system"`
	CreatedAt   time.Time  `json:"created_at"`
	CreatedBy   *string    `json:"created_by"`
	ExpiresAt   *time.Time `json:"expires_at"`
	LastUsedAt  *time.Time `json:"last_used_at"`
	Networks    []string   `json:"networks"`
	Replaces    *store.ID  `json:"replaces"`
	ReplacedBy  *store.ID  `json:"replaced_by"`
	// Key is the key in clear, in the answer to its creation alone.
	Key string `json:"key,omitempty"`
}

// RevokedJSON is a revocation as the API and the command line show it.
type RevokedJSON struct {
	ID    store.ID `json:"id"`
	Label string   `json:"label"`
	OutcomeJSON
	// AlsoRevoked are the successors that the key has minted of itself, and those that they
	// have minted.
	AlsoRevoked []NamedKeyJSON `json:"also_revoked"`
	// ReplacedBy is the successor of the key, if it is accepted still.
	ReplacedBy *store.ID `json:"replaced_by"`
}

// RevokedKeysJSON is the revocation of many keys, or what it would be: then there is no
// outcome.
type RevokedKeysJSON struct {
	Keys  []NamedKeyJSON `json:"keys"`
	Total int32          `json:"total"`
	*OutcomeJSON
}

// NamedKeyJSON is what is left to say of a key.
type NamedKeyJSON struct {
	ID    store.ID `json:"id"`
	Label string   `json:"label"`
}

// OutcomeJSON is what has become of a revocation.
type OutcomeJSON struct {
	// RevokedAt is left out while some instance is awaited.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	// Instances says who refuses the key, and why.
	Instances InstancesJSON `json:"instances"`
	// RequestsCut is how many requests in flight were cut on all instances.
	RequestsCut int32 `json:"requests_cut"`
}

// InstancesJSON is how far a revocation has come. The numbers are int32, since the
// integers of GraphQL are.
type InstancesJSON struct {
	// Total is the number of instances when the key was deleted.
	Total int32 `json:"total"`
	// Acknowledged have applied it.
	Acknowledged int32 `json:"acknowledged"`
	// Expired were silent until they could not accept the key any more.
	Expired int32 `json:"expired"`
	// Awaited names the other instances, in an answer that did not wait for the end.
	Awaited []string `json:"awaited,omitempty"`
}

// ShowKey gives the public form of a key.
func ShowKey(k *store.Key) KeyJSON {
	shown := KeyJSON{
		ID:          k.ID,
		Label:       k.Label,
		Permissions: k.Permissions,
		IsSystem:    k.IsSystem,
		CreatedAt:   k.CreatedAt,
		ExpiresAt:   orNull(k.ExpiresAt),
		LastUsedAt:  orNull(k.LastUsedAt),
		Networks:    k.Networks.Strings(),
		Replaces:    idOrNull(k.Replaces),
		ReplacedBy:  idOrNull(k.ReplacedBy),
	}
	if shown.Permissions == nil { // a list is never null
		shown.Permissions = []string{}
	}
	if k.CreatedBy != "" {
		shown.CreatedBy = &k.CreatedBy
	}
	return shown
}

// ShowRevoked gives the public form of a revocation, at its end or on the way.
func ShowRevoked(r *Revoked) RevokedJSON {
	return RevokedJSON{
		ID: r.ID, Label: r.Label, OutcomeJSON: showOutcome(r),
		AlsoRevoked: showNames(r.Keys), ReplacedBy: idOrNull(r.ReplacedBy.ID),
	}
}

// ShowRevokedKeys gives the public form of the revocation of many keys.
func ShowRevokedKeys(r *Revoked) RevokedKeysJSON {
	shown, outcome := ShowMatching(r.Keys), showOutcome(r)
	shown.OutcomeJSON = &outcome
	return shown
}

// ShowMatching gives the public form of the keys that would be revoked.
func ShowMatching(keys []store.AuditKey) RevokedKeysJSON {
	return RevokedKeysJSON{Keys: showNames(keys), Total: int32(len(keys))}
}

// showNames gives the public form of a list of keys, which is never null. Clients with types
// tell a list from null.
func showNames(keys []store.AuditKey) []NamedKeyJSON {
	shown := make([]NamedKeyJSON, 0, len(keys))
	for _, key := range keys {
		shown = append(shown, NamedKeyJSON{ID: key.ID, Label: key.Label})
	}
	return shown
}

// showOutcome gives the public form of what has become of a revocation.
func showOutcome(r *Revoked) OutcomeJSON {
	return OutcomeJSON{
		RevokedAt: r.At,
		Instances: InstancesJSON{
			Total: int32(r.Report.Total), Acknowledged: int32(r.Report.Acknowledged), Expired: int32(len(r.Report.Expired)),
			Awaited: r.Awaited(),
		},
		RequestsCut: int32(r.Report.Cut),
	}
}

// orNull makes null of the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// idOrNull makes null of the zero id.
func idOrNull(id store.ID) *store.ID {
	if id == (store.ID{}) {
		return nil
	}
	return &id
}

// link is a link of the envelope, without scheme and host.
type link struct {
	Href string `json:"href"`
}

// links are the links of an answer. Next is there if the list has another page.
type links struct {
	Self       link  `json:"self"`
	Collection link  `json:"collection"`
	Next       *link `json:"next,omitempty"`
}

// meta is what an answer says of a whole list.
type meta struct {
	// Total counts the entries on all pages.
	Total int `json:"total"`
	// Relation is "gte" if there are more than Total. The rest was not counted.
	Relation string `json:"total_relation,omitempty"`
}

// envelope is the form of every good answer. Lumio's own API has the same one.
//
// An error has another form: see [gate.Body].
type envelope struct {
	Data  any   `json:"data"`
	Links links `json:"_links"`
	Meta  *meta `json:"meta,omitempty"`
}

// keysLink is the link of the keys, or of what is below or behind it.
func (x *Exchange) keysLink(below string) link {
	return link{x.handler.config.Mount + keysPath + below}
}

// keyAnswer is the answer about one key, or about several. Below is where it is, below the
// path of the keys or behind it.
func (x *Exchange) keyAnswer(data any, below string) envelope {
	return envelope{Data: data, Links: links{Self: x.keysLink(below), Collection: x.keysLink("")}}
}

// listAnswer is the answer with a page of a list. cursor is that of the next page, or empty. The
// link to the next page has all parameters of this one, so that a client follows it as it is.
func (x *Exchange) listAnswer(r *http.Request, collection string, data any, m meta, cursor string) envelope {
	collection = x.handler.config.Mount + collection
	answer := envelope{Data: data, Links: links{Self: link{collection}, Collection: link{collection}}, Meta: &m}
	if r.URL.RawQuery != "" {
		answer.Links.Self.Href += "?" + r.URL.RawQuery
	}
	if cursor != "" {
		parameters := r.URL.Query() // parseQuery has found it well-formed
		parameters.Set("cursor", cursor)
		answer.Links.Next = &link{Href: collection + "?" + parameters.Encode()}
	}
	return answer
}

// WriteJSON answers with JSON. No cache may keep it: answers of the admin plane name keys
// and people.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", MediaJSON)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // the client is gone if this fails
}

// AuditJSON is an audit record as the API, and the command line with --json, show
// it. All members are always there.
type AuditJSON struct {
	ID      store.ID         `json:"id"`
	Event   store.AuditEvent `json:"event"`
	At      time.Time        `json:"at"`
	Actor   AuditActorJSON   `json:"actor"`
	Key     *AuditKeyJSON    `json:"key"`
	Request *RequestJSON     `json:"request"`
	Details json.RawMessage  `json:"details"`
}

// AuditActorJSON is who acted.
type AuditActorJSON struct {
	Type  string  `json:"type"`
	ID    string  `json:"id"`
	Label *string `json:"label"`
}

// AuditKeyJSON is the key that was acted on.
type AuditKeyJSON struct {
	ID    store.ID `json:"id"`
	Label *string  `json:"label"`
}

// RequestJSON is the request by which it was done.
type RequestJSON struct {
	ID       string `json:"id"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int32  `json:"status"`
	ClientIP string `json:"client_ip"`
}

// ShowAudit gives the public form of an audit record. Key is null for a record that is about no
// key, and Request for one that was caused by no request.
func ShowAudit(r *store.AuditRecord) AuditJSON {
	shown := AuditJSON{
		ID: r.ID, Event: r.Event, At: r.At,
		Actor:   AuditActorJSON{Type: r.Actor.Type, ID: r.Actor.ID, Label: textOrNull(r.Actor.Label)},
		Details: r.Details,
	}
	if r.Key.ID != (store.ID{}) {
		shown.Key = &AuditKeyJSON{ID: r.Key.ID, Label: textOrNull(r.Key.Label)}
	}
	if r.Request != (store.AuditRequest{}) {
		shown.Request = &RequestJSON{
			ID: r.Request.ID, Method: r.Request.Method, Path: r.Request.Path,
			Status: int32(r.Request.Status), ClientIP: r.Request.ClientIP,
		}
	}
	if shown.Details == nil {
		shown.Details = json.RawMessage("{}")
	}
	return shown
}

// textOrNull makes null of an empty text.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
