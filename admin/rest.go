package admin

import (
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func list(w http.ResponseWriter, r *http.Request, x *exchange) error {
	parameters, err := parseQuery(r.URL.RawQuery, keyParameters...)
	if err != nil {
		return err
	}
	query, err := keyQuery(parameters)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(r.Context())
	defer cancel()
	page, err := x.service.List(ctx, x.actor, query)
	if err != nil {
		return err
	}
	data := make([]KeyJSON, 0, len(page.Keys))
	for i := range page.Keys {
		data = append(data, ShowKey(&page.Keys[i]))
	}
	next := ""
	if page.Next != nil {
		next = page.Next.Encode()
	}
	writeJSON(w, http.StatusOK, many(r, keysPath, data, meta{Total: page.Total}, next))
	return nil
}

func listAudit(w http.ResponseWriter, r *http.Request, x *exchange) error {
	parameters, err := parseQuery(r.URL.RawQuery, auditParameters...)
	if err != nil {
		return err
	}
	query, err := auditQuery(parameters)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(r.Context())
	defer cancel()
	page, err := x.service.AuditLog(ctx, x.actor, query)
	if err != nil {
		return err
	}
	data := make([]AuditJSON, 0, len(page.Records))
	for i := range page.Records {
		data = append(data, ShowAudit(&page.Records[i]))
	}
	writeJSON(w, http.StatusOK, many(r, auditPath, data, auditMeta(page), auditCursor(page)))
	return nil
}

func auditMeta(page *store.AuditPage) meta {
	m := meta{Total: page.Total}
	if page.More {
		m.Relation = "gte"
	}
	return m
}

func auditCursor(page *store.AuditPage) string {
	if page.Next == (store.ID{}) {
		return ""
	}
	return page.Next.String()
}

func create(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.actor.may(PermissionCreate); err != nil {
		return err // before the body is read
	}
	body, err := readJSON(w, r, maxBody)
	if err != nil {
		return err
	}
	var input createInput
	if err := decode(body, &input, "label", "permissions", "expires_at", "is_system"); err != nil {
		return err
	}
	want, err := input.key()
	if err != nil {
		return err
	}
	ctx, cancel := detached(r.Context())
	defer cancel()
	key, plain, err := x.service.Create(ctx, x.actor, want)
	if err != nil {
		return err
	}
	shown := ShowKey(key)
	shown.Key = plain
	href := keysPath + "/" + key.ID.String()
	w.Header().Set("Location", href)
	writeJSON(w, http.StatusCreated, one(shown, href))
	return nil
}

func get(w http.ResponseWriter, r *http.Request, x *exchange) error {
	ctx, cancel := bounded(r.Context())
	defer cancel()
	key, err := x.service.Get(ctx, x.actor, x.id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, one(ShowKey(key), keysPath+"/"+x.id.String()))
	return nil
}
