package admin

import (
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func list(w http.ResponseWriter, r *http.Request, x *exchange) error {
	query, err := parseList(r.URL.RawQuery)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(r)
	defer cancel()
	page, err := x.service.List(ctx, x.actor, query)
	if err != nil {
		return err
	}
	data := make([]KeyJSON, 0, len(page.Keys))
	for i := range page.Keys {
		data = append(data, ShowKey(&page.Keys[i]))
	}
	self := keysPath
	if r.URL.RawQuery != "" {
		self += "?" + r.URL.RawQuery
	}
	writeJSON(w, http.StatusOK, envelope{
		Data: data,
		Links: links{
			Self: link{self}, Collection: link{keysPath},
			Next: nextLink(r.URL.RawQuery, page.Next),
		},
		Meta: &meta{Total: page.Total},
	})
	return nil
}

func create(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.actor.may(PermissionCreate); err != nil {
		return err // before the body is read
	}
	var input createInput
	if err := decode(w, r, &input, "label", "permissions", "expires_at", "is_system"); err != nil {
		return err
	}
	if input.Label == nil {
		return &store.InvalidError{Field: "label", Reason: "is required"}
	}
	want := NewKey{Label: *input.Label, Permissions: input.Permissions, IsSystem: input.IsSystem}
	if input.ExpiresAt != nil {
		if want.ExpiresAt = *input.ExpiresAt; want.ExpiresAt.IsZero() {
			want.ExpiresAt = time.Unix(0, 0) // the year 1 is a time like any other that is over
		}
	}
	ctx, cancel := detached(r)
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
	ctx, cancel := bounded(r)
	defer cancel()
	key, err := x.service.Get(ctx, x.actor, x.id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, one(ShowKey(key), r.URL.Path))
	return nil
}

func one(data any, href string) envelope {
	return envelope{Data: data, Links: links{Self: link{href}, Collection: link{keysPath}}}
}
