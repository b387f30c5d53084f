package admin

import (
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// ListKeys answers with a page of the list of keys. The page of the browser uses it too.
func ListKeys(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	parameters, err := parseQuery(r.URL.RawQuery, keyParameters...)
	if err != nil {
		return err
	}
	query, err := KeyQuery(parameters, x.Service.Now())
	if err != nil {
		return err
	}
	ctx, cancel := Bounded(r.Context())
	defer cancel()
	page, err := x.Service.List(ctx, x.Actor, query)
	if err != nil {
		return err
	}
	data := make([]KeyJSON, 0, len(page.Keys))
	for i := range page.Keys {
		data = append(data, ShowKey(&page.Keys[i]))
	}
	WriteJSON(w, http.StatusOK, x.listAnswer(r, keysPath, data, meta{Total: page.Total}, CursorText(page.Next)))
	return nil
}

// CursorText is the cursor of a page of keys, as text. It is empty if there is no such
// page.
func CursorText(c *store.Cursor) string {
	if c == nil {
		return ""
	}
	return c.Encode()
}

// listAudit answers with a page of the audit log, the newest records first. If there are more
// records than the store counts, the total is a lower bound and says so.
func listAudit(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	parameters, err := parseQuery(r.URL.RawQuery, auditParameters...)
	if err != nil {
		return err
	}
	query, err := AuditQuery(parameters)
	if err != nil {
		return err
	}
	ctx, cancel := Bounded(r.Context())
	defer cancel()
	page, err := x.Service.AuditLog(ctx, x.Actor, query)
	if err != nil {
		return err
	}
	data := make([]AuditJSON, 0, len(page.Records))
	for i := range page.Records {
		data = append(data, ShowAudit(&page.Records[i]))
	}
	m := meta{Total: page.Total}
	if page.More {
		m.Relation = "gte"
	}
	WriteJSON(w, http.StatusOK, x.listAnswer(r, auditPath, data, m, AuditCursor(page)))
	return nil
}

// AuditCursor is the cursor of the next page, as text. It is empty on the last page.
func AuditCursor(page *store.AuditPage) string {
	if page.Next == (store.ID{}) {
		return ""
	}
	return page.Next.String()
}

// CreateKey mints a key from a JSON body. The answer shows the key in clear, for the only time.
// If the client goes away meanwhile, the key is created, and nobody has it.
func CreateKey(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	if err := x.Service.Allow(x.Actor, PermissionCreate); err != nil {
		return err // before the body is read
	}
	body, err := ReadJSON(w, r, maxBody)
	if err != nil {
		return err
	}
	var input CreateInput
	if err := Decode(body, &input, "label", "permissions", "expires_at", "is_system", "networks"); err != nil {
		return err
	}
	want, err := input.Key()
	if err != nil {
		return err
	}
	ctx, cancel := Detached(r.Context())
	defer cancel()
	key, plain, err := x.Service.Create(ctx, x.Actor, want)
	if err != nil {
		return err
	}
	x.answerNewKey(w, key, plain)
	return nil
}

// GetKey answers with one key.
func GetKey(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	ctx, cancel := Bounded(r.Context())
	defer cancel()
	key, err := x.Service.Get(ctx, x.Actor, x.ID)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, x.keyAnswer(ShowKey(key), "/"+x.ID.String()))
	return nil
}
