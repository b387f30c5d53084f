package page

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// rotate answers JSON as the REST API does, and a form with a page, as create does.
func (p *Page) rotate(w http.ResponseWriter, r *http.Request, x *admin.Exchange) error {
	if admin.IsForm(r) {
		return p.html(p.rotateKey)(w, r, x)
	}
	return p.visited(admin.RotateKey)(w, r, x)
}

// askRotate shows the form that asks how a key is to be rotated. It changes nothing.
func (p *Page) askRotate(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.enter(w, r); err != nil {
		return err
	}
	form, err := p.rotateForm(r, x)
	if err != nil {
		return err
	}
	p.render(w, r, x, http.StatusOK, form)
	return nil
}

// rotateForm is the form for the key that the request names, with the defaults in it. It also
// checks what the actor may do.
//
// The store is asked for the key as it is now, and not a cache: the button may be old.
func (p *Page) rotateForm(r *http.Request, x *exchange) (ui.Rotate, error) {
	if err := x.Actor.MayRotate(); err != nil {
		return ui.Rotate{}, err
	}
	ctx, cancel := admin.Bounded(r.Context())
	defer cancel()
	key, err := x.Service.Store.Key(ctx, x.ID)
	if err != nil {
		return ui.Rotate{}, err
	}
	rows := []ui.Key{{Key: key, Own: key.ID == x.Actor.Key}}
	if err := p.relate(ctx, x, rows); err != nil {
		return ui.Rotate{}, err
	}
	return ui.Rotate{Key: rows[0], Nonce: x.nonce(), Deadline: ui.DefaultDeadline, Grace: ui.DefaultGrace}, nil
}

// rotateKey rotates a key from a form, and shows the new one once. The form offers a few times
// for the end of the old key, and no others are taken.
func (p *Page) rotateKey(w http.ResponseWriter, r *http.Request, x *exchange) error {
	fields, err := admin.ReadForm(w, r, "nonce", "deadline", "grace", "now")
	if err != nil {
		return err
	}
	if err := x.enter(w, r); err != nil {
		return err
	}
	form, err := p.rotateForm(r, x)
	if err != nil {
		return err
	}
	form.Deadline, form.Grace, form.Now = fields["deadline"], fields["grace"], fields["now"] == "true"
	if !slices.Contains(form.Deadlines(), form.Deadline) || !slices.Contains(form.Graces(), form.Grace) {
		return admin.BadRequest("no such deadline or grace")
	}
	// The form always has both, and they mean nothing if the key ends now.
	input := admin.RotateInput{Deadline: &form.Deadline, Grace: &form.Grace}
	if form.Now {
		input = admin.RotateInput{Now: true}
	}
	want, err := input.Options()
	if err != nil {
		return err
	}
	rotation, err := p.rotateOnce(r, x, fields["nonce"], want)
	if err != nil {
		refusal := admin.RefusalOf(err)
		if form.Error = rotateError(err, refusal.Status); form.Error == "" {
			return err
		}
		if refusal.Status >= http.StatusInternalServerError || errors.Is(err, admin.ErrEscalation) {
			_ = x.Report(r, err) // to the logs
		}
		if errors.Is(err, store.ErrConflict) {
			refusal.Status = http.StatusConflict
		}
		admin.SetFields(w, refusal)
		p.render(w, r, x, refusal.Status, form)
		return nil
	}
	reveal := ui.Reveal{Label: rotation.Key.Label, Key: rotation.Plain, URL: p.siteURL(r), Old: rotation.Old, Grace: form.Grace}
	if rotation.Ended != nil { // the old key, or a successor of before that nobody has used
		// The new key must be shown, whatever becomes of the wait.
		switch ended, _ := patiently(r, rotation.Ended); {
		case form.Now:
			reveal.Ended = &ended
		case !ended.Done:
			reveal.Unused = &ended
		}
	}
	p.render(w, r, x, http.StatusCreated, reveal)
	return nil
}

// rotateOnce spends the nonce, so that a form that is sent again rotates nothing. A second
// rotation would end the successor that the admin has just copied.
func (p *Page) rotateOnce(r *http.Request, x *exchange, nonce string, want admin.RotateOptions) (*admin.Rotation, error) {
	if err := x.spendNonce(r, nonce); err != nil {
		return nil, err
	}
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	return x.Service.Rotate(ctx, x.Actor, x.ID, want)
}

// rotateError is the key of the text for an error that belongs into the form, or empty. A spent
// nonce comes first: the table of refusals has no answer of its own for it.
func rotateError(err error, status int) string {
	replaced, again := errors.AsType[*store.ReplacedError](err)
	switch {
	case errors.Is(err, store.ErrConflict):
		return "spent"
	case again && replaced.InUse:
		return "used"
	case again:
		return "meanwhile"
	case errors.Is(err, store.ErrEnded):
		return "ended"
	case errors.Is(err, admin.ErrEscalation):
		return "escalation"
	case status == http.StatusUnprocessableEntity:
		return "short"
	case status >= http.StatusInternalServerError:
		return "unknown"
	}
	return ""
}

// relate finds out by which keys the rows were replaced, and which ones they replace. It asks
// the store once for all rows. A key that is gone is left out. It also says which rows get a
// button to rotate them.
func (p *Page) relate(ctx context.Context, x *exchange, rows []ui.Key) error {
	var ids []store.ID
	for _, row := range rows {
		for _, id := range []store.ID{row.Replaces, row.ReplacedBy} {
			if id != (store.ID{}) {
				ids = append(ids, id)
			}
		}
	}
	others := make(map[store.ID]*store.Key)
	if len(ids) > 0 {
		found, _, err := x.Service.Store.KnownKeys(ctx, ids)
		if err != nil {
			return err
		}
		for i := range found {
			found[i].Hash = ""
			others[found[i].ID] = &found[i]
		}
	}
	for i := range rows {
		row := &rows[i]
		row.Predecessor, row.Successor = others[row.Replaces], others[row.ReplacedBy]
		row.Rotatable = x.Actor.MayRotate() == nil && !row.Expired(p.config.Now()) && !row.Succeeded() &&
			x.Actor.Grant(row.Permissions, row.IsSystem) == nil
	}
	return nil
}
