package page

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// create answers JSON as the REST API does, and a form with a page. Both are under one path,
// which the script and the form of the page use.
func (p *Page) create(w http.ResponseWriter, r *http.Request, x *admin.Exchange) error {
	if admin.IsForm(r) {
		return p.html(p.createKey)(w, r, x)
	}
	return p.visited(admin.CreateKey)(w, r, x)
}

// askCreate shows the form for a new key. Whoever may not create one gets no form: it could only
// fail.
func (p *Page) askCreate(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.enter(w, r); err != nil {
		return err
	}
	if err := x.Actor.May(admin.PermissionCreate); err != nil {
		return err
	}
	p.render(w, r, x, http.StatusOK, p.createForm(r, x, ui.Create{}))
	return nil
}

// createForm fills in what is the same in every form. A form that is shown again has a new
// nonce, since the old one may be spent.
func (p *Page) createForm(r *http.Request, x *exchange, form ui.Create) ui.Create {
	form.Nonce = x.nonce()
	form.MayGrantSystem = x.Actor.IsSystem
	form.Today = p.config.Now().UTC()
	form.Suggestions = p.suggestions(r, x.Actor, x.Service)
	return form
}

// suggestedFrom is how many of the newest keys are searched for permissions to suggest. The form
// must not wait for a search of a million keys.
const suggestedFrom = 1000

// suggestions are the permissions in use that the actor may grant. The form also works
// without them, so an error is ignored.
//
// What the actor may not grant is left out: the form would be refused.
func (p *Page) suggestions(r *http.Request, actor admin.Actor, service *admin.Service) []string {
	ctx, cancel := admin.Bounded(r.Context())
	defer cancel()
	used, err := service.Store.Granted(ctx, suggestedFrom)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(used, func(permission string) bool {
		return actor.Grant([]string{permission}, false) != nil
	})
}

// createKey creates a key from a form, and shows it once. What is wrong with the form is shown
// in the form, with all that was typed. The key is in the answer to the POST: a redirect would
// need a place to keep it.
func (p *Page) createKey(w http.ResponseWriter, r *http.Request, x *exchange) error {
	fields, err := admin.ReadForm(w, r, "nonce", "label", "permissions", "networks", "expires_on", "is_system", "without")
	if err != nil {
		return err
	}
	if err := x.enter(w, r); err != nil {
		return err
	}
	form := ui.Create{
		Label: fields["label"], Permissions: fields["permissions"], Networks: fields["networks"], Expires: fields["expires_on"],
		IsSystem: fields["is_system"] == "true", Without: fields["without"] == "true", Errors: map[string]string{},
	}
	want := readFields(&form)
	// A field that is wrong here is shown before the service is asked for anything.
	if len(form.Errors) == 0 {
		var key *store.Key
		var plain string
		if key, plain, err = p.createOnce(r, x, fields["nonce"], want); err == nil {
			p.render(w, r, x, http.StatusCreated, ui.Reveal{Label: key.Label, Key: plain, URL: p.siteURL(r)})
			return nil
		}
	}
	refusal := admin.RefusalOf(err)
	if len(form.Errors) > 0 { // a field is wrong, and nothing was tried
		refusal = &gate.Refusal{Status: http.StatusUnprocessableEntity}
	}
	if !addErrors(&form, refusal, err) {
		return err // not about the form
	}
	if refusal.Status >= http.StatusInternalServerError || errors.Is(err, admin.ErrEscalation) {
		_ = x.Report(r, err) // to the logs
	}
	// The answer to a form that failed is the form, with the status of the failure.
	admin.SetFields(w, refusal)
	p.render(w, r, x, refusal.Status, p.createForm(r, x, form))
	return nil
}

// createOnce creates a key. It checks everything else before it spends the nonce, so that an
// admin who has mistyped something can send the form again. The error wraps errUnknownOutcome if
// the store may have the key, and is [store.ErrConflict] if the form was sent before.
func (p *Page) createOnce(r *http.Request, x *exchange, nonce string, want admin.NewKey) (*store.Key, string, error) {
	if err := x.Service.Check(x.Actor, want); err != nil {
		return nil, "", err
	}
	if err := x.spendNonce(r, nonce); err != nil {
		return nil, "", err
	}
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	key, plain, err := x.Service.Create(ctx, x.Actor, want)
	if err != nil && !admin.Settled(err) && !errors.Is(err, hashing.ErrBusy) {
		err = errors.Join(errUnknownOutcome, err)
	}
	return key, plain, err
}

// errUnknownOutcome says that a key may have been created. Nobody has seen the key, so it can be
// revoked without harm.
var errUnknownOutcome = errors.New("the outcome cannot be learned")

// readFields reads the fields of the form, and notes the wrong ones in the form. The values in
// Errors are names of texts in the translations. The service checks the rest.
func readFields(form *ui.Create) admin.NewKey {
	want := admin.NewKey{
		Label:       form.Label,
		Permissions: listed(form.Permissions),
		Networks:    listed(form.Networks),
		IsSystem:    form.IsSystem,
	}
	// Somebody has pasted a key into the wrong field. The form must not show it again.
	if token.Holds(form.Label) {
		form.Label, form.Errors["label"] = "", "secret"
	}
	// A key without permissions is seldom what an admin means who has left the field empty.
	if len(want.Permissions) == 0 && !form.IsSystem && !form.Without {
		form.Errors["permissions"] = "none"
	}
	if form.Expires != "" {
		day, err := time.Parse(time.DateOnly, form.Expires)
		if err != nil {
			form.Errors["expires_at"] = "expires_at"
		}
		want.ExpiresAt = day.AddDate(0, 0, 1) // the day itself is the last one
	}
	return want
}

// listed reads what stands between blanks and commas. Empty parts are left out.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" ,\t\r\n", c) })
}

// addErrors puts a refusal into the form, and reports whether it belongs there. It may change
// the status of the refusal.
func addErrors(form *ui.Create, refusal *gate.Refusal, err error) bool {
	for field := range refusal.Fields {
		form.Errors[field] = field
	}
	switch {
	case errors.Is(err, admin.ErrEscalation):
		field := "permissions"
		if form.IsSystem {
			field = "is_system"
		}
		form.Errors[field] = "escalation"
	case errors.Is(err, store.ErrConflict):
		refusal.Status = http.StatusConflict
		form.Errors["form"] = "spent"
	case errors.Is(err, errUnknownOutcome):
		form.Errors["form"] = "unknown"
	case refusal.Status >= http.StatusInternalServerError:
		form.Errors["form"] = "unavailable"
	}
	return len(form.Errors) > 0
}

// siteURL is the URL of the site, as the browser sees it. It is in the example of a call that
// stands beside a new key. The host is what the client sent, so use it for nothing but that.
func (p *Page) siteURL(r *http.Request) string {
	if p.secure(r) {
		return "https://" + r.Host + "/"
	}
	return "http://" + r.Host + "/"
}
