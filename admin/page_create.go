package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// create is the API's for JSON, and the page's for a form.
func (p *page) create(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if isForm(r) {
		return p.createKey(w, r, x)
	}
	return p.visited(create)(w, r, x)
}

// askCreate shows the form for a new key.
func (p *page) askCreate(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.enter(w, r); err != nil {
		return err
	}
	if err := x.actor.may(PermissionCreate); err != nil {
		return err
	}
	p.show(w, r, x, http.StatusOK, p.createForm(r, x, ui.Create{}))
	return nil
}

// createForm fills in what is the same in every form.
func (p *page) createForm(r *http.Request, x *exchange, form ui.Create) ui.Create {
	form.Nonce = x.nonce()
	form.MayGrantSystem = x.actor.IsSystem
	form.Today = p.handler.config.Now().UTC()
	form.Suggestions = p.suggestions(r, x.actor, x.service)
	return form
}

// suggestedFrom is how many of the newest keys are looked at for permissions.
const suggestedFrom = 1000

// suggestions are the permissions in use that the actor may grant. Without them
// the form is as good, so that an error counts as none.
func (p *page) suggestions(r *http.Request, actor Actor, service *Service) []string {
	ctx, cancel := bounded(r.Context())
	defer cancel()
	used, err := service.Store.Granted(ctx, suggestedFrom)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(used, func(permission string) bool {
		return actor.grant([]string{permission}, false) != nil
	})
}

// createKey creates a key from a form, and shows it once.
func (p *page) createKey(w http.ResponseWriter, r *http.Request, x *exchange) error {
	fields, err := readForm(w, r, "nonce", "label", "permissions", "expires_on", "is_system")
	if err != nil {
		return err
	}
	if err := x.enter(w, r); err != nil {
		return err
	}
	form := ui.Create{
		Label: fields["label"], Permissions: fields["permissions"], Expires: fields["expires_on"],
		IsSystem: fields["is_system"] == "true", Errors: map[string]string{},
	}
	want := wanted(&form)
	if len(form.Errors) == 0 {
		var key *store.Key
		var plain string
		if key, plain, err = p.createOnce(r, x, fields["nonce"], want); err == nil {
			p.show(w, r, x, http.StatusCreated, ui.Reveal{Label: key.Label, Key: plain, URL: p.siteURL(r)})
			return nil
		}
	}
	found := refusalOf(err)
	if len(form.Errors) > 0 {
		found = &gate.Refusal{Status: http.StatusUnprocessableEntity}
	}
	if !explain(&form, found, err) {
		return err
	}
	if found.Status >= http.StatusInternalServerError || errors.Is(err, ErrEscalation) {
		_ = p.handler.report(r, x, err) // to the logs
	}
	for name, values := range found.Header {
		w.Header()[name] = slices.Clone(values)
	}
	p.show(w, r, x, found.Status, p.createForm(r, x, form))
	return nil
}

// createOnce spends the nonce when all that can be checked before was checked: who
// has mistyped something may send the form again.
func (p *page) createOnce(r *http.Request, x *exchange, nonce string, want NewKey) (*store.Key, string, error) {
	if err := x.service.Check(x.actor, want); err != nil {
		return nil, "", err
	}
	if err := x.spend(r, nonce); err != nil {
		return nil, "", err
	}
	ctx, cancel := detached(r.Context())
	defer cancel()
	key, plain, err := x.service.Create(ctx, x.actor, want)
	if err != nil && !settled(err) && !errors.Is(err, ErrEscalation) && !errors.Is(err, verify.ErrBusy) {
		err = errors.Join(errUnknownOutcome, err)
	}
	return key, plain, err
}

// errUnknownOutcome says that a key may have been created, and that nobody was
// told.
var errUnknownOutcome = errors.New("the outcome cannot be learned")

// wanted reads the fields of the form, and notes what is wrong with them.
func wanted(form *ui.Create) NewKey {
	want := NewKey{
		Label:       form.Label,
		Permissions: strings.FieldsFunc(form.Permissions, func(c rune) bool { return strings.ContainsRune(" ,\t\r\n", c) }),
		IsSystem:    form.IsSystem,
	}
	if token.Holds(form.Label) {
		form.Label, form.Errors["label"] = "", "secret"
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

// explain puts a problem into the form, and reports whether it belongs there.
func explain(form *ui.Create, found *gate.Refusal, err error) bool {
	for field := range found.Fields {
		form.Errors[field] = field
	}
	switch {
	case errors.Is(err, ErrEscalation):
		field := "permissions"
		if form.IsSystem {
			field = "is_system"
		}
		form.Errors[field] = "escalation"
	case errors.Is(err, store.ErrConflict):
		found.Status = http.StatusConflict
		form.Errors["form"] = "spent"
	case errors.Is(err, errUnknownOutcome):
		form.Errors["form"] = "unknown"
	case found.Status >= http.StatusInternalServerError:
		form.Errors["form"] = "unavailable"
	}
	return len(form.Errors) > 0
}

// siteURL is where the site is, as the browser sees it.
func (p *page) siteURL(r *http.Request) string {
	if p.handler.secure(r) {
		return "https://" + r.Host + "/"
	}
	return "http://" + r.Host + "/"
}
