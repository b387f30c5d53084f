package page

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// recent is how long ago a key was used at most that counts as in use. An admin has to type the
// label of such a key to revoke it. To end a key that a service uses now is an outage of that
// service. The last use is written behind the requests, so it may be a little older than the
// truth.
const recent = time.Hour

// pagePatience is how long an answer in one piece waits for a revocation: that to a browser
// without scripts, and that to a rotation. Then the page shows how far the revocation has come.
// A person takes a page that loads longer for a broken one. The wait goes on without the page.
const pagePatience = 10 * time.Second

// askRevoke shows the form that asks for confirmation. It is shown for a revoked key as well: to
// revoke it again waits again.
func (p *Page) askRevoke(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.enter(w, r); err != nil {
		return err
	}
	if err := x.Actor.May(admin.PermissionDelete); err != nil {
		return err
	}
	key, err := p.readKey(r, x)
	if err == nil && key == nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return err
	}
	p.render(w, r, x, http.StatusOK, p.revokeForm(x, key))
	return nil
}

// readKey returns the key. Of a revoked key it returns what the audit log has. It returns nil
// for an unknown id. The permission to read keys is needed, even to revoke one: the form shows
// the label.
func (p *Page) readKey(r *http.Request, x *exchange) (*store.Key, error) {
	ctx, cancel := admin.Bounded(r.Context())
	defer cancel()
	key, err := x.Service.Get(ctx, x.Actor, x.ID)
	if errors.Is(err, store.ErrNotFound) {
		key, _, err = x.Service.Revoked(ctx, x.ID)
	}
	return key, err
}

// revokeForm is the form for a key. An admin who revokes the key of their session is warned.
func (p *Page) revokeForm(x *exchange, key *store.Key) ui.Revoke {
	return ui.Revoke{
		Key: ui.Key{Key: key, Own: key.ID == x.Actor.Key}, Nonce: x.nonce(),
		Confirm: p.config.Now().Sub(key.LastUsedAt) < recent,
	}
}

// revokeKey revokes a key. The page's script gets a line for each step. The nonce is not spent,
// since to revoke a key twice does no harm. The key is deleted even if the browser goes away.
func (p *Page) revokeKey(w http.ResponseWriter, r *http.Request, x *exchange) error {
	fields, err := admin.ReadForm(w, r, "nonce", "confirm")
	if err != nil {
		return err
	}
	if err := x.enter(w, r); err != nil {
		return err
	}
	if err := x.Actor.May(admin.PermissionDelete); err != nil {
		return err
	}
	if _, err := x.checkNonce(fields["nonce"]); err != nil {
		return err
	}
	key, err := p.readKey(r, x)
	if err != nil {
		return err
	}
	if key == nil {
		key = &store.Key{ID: x.ID} // that there is none is said when it is true everywhere
	}
	// The question is asked again with the key as it is now.
	form := p.revokeForm(x, key)
	if form.Confirm && strings.TrimSpace(fields["confirm"]) != key.Label {
		// This includes an admin who has opened the form before the key was used.
		form.Mismatch = fields["confirm"] != ""
		p.render(w, r, x, http.StatusUnprocessableEntity, form)
		return nil
	}
	deleting, cancel := admin.Detached(r.Context())
	defer cancel()
	revocation, err := x.Service.Revoke(deleting, x.Actor, x.ID)
	if err != nil {
		return err
	}
	// Only the script can show one line after the other.
	if r.Header.Get(fragmentHeader) != "" {
		return p.follow(w, r, x, revocation)
	}
	return p.await(w, r, x, revocation)
}

// await answers a browser without scripts. Status 202 says that some instance may still accept
// the key.
func (p *Page) await(w http.ResponseWriter, r *http.Request, x *exchange, revocation *admin.Revocation) error {
	shown, err := patiently(r, revocation)
	switch {
	case err != nil:
		return err
	case shown.Done:
		p.render(w, r, x, http.StatusOK, shown)
	default:
		p.render(w, r, x, http.StatusAccepted, shown)
	}
	return nil
}

// patiently waits for the end of a revocation, but not for long, and shows how far it has come.
// The wait itself goes on.
func patiently(r *http.Request, revocation *admin.Revocation) (ui.Revoked, error) {
	wait := revocation.Begin(context.WithoutCancel(r.Context()))
	timer := time.NewTimer(pagePatience)
	defer timer.Stop()
	select {
	case <-wait.Done:
		if wait.Err != nil {
			return showProgress(wait.SoFar(), false), wait.Err
		}
		return showProgress(wait.Revoked, true), nil
	case <-timer.C:
	case <-r.Context().Done(): // nobody reads the answer
	}
	return showProgress(wait.SoFar(), false), nil
}

// follow writes a line for each step. Each line is complete in itself, and the last one counts.
// A line is written only if it says something new. The wait does not end with the request: the
// revocation is as true if nobody looks.
//
// An id that nobody knows gets no line before the end: the answer is then 404, which needs a
// status.
func (p *Page) follow(w http.ResponseWriter, r *http.Request, x *exchange, revocation *admin.Revocation) error {
	lines := http.NewResponseController(w)
	wrote := false
	last := ui.Revoked{}
	line := func(step ui.Revoked) {
		if !wrote {
			wrote = true
			p.render(w, r, x, http.StatusOK, step)
		} else {
			_ = p.ui.Fragment(w, p.frame(r, x), step) // the client is gone if this fails
		}
		_ = lines.Flush()
	}
	revoked, err := revocation.Wait(context.WithoutCancel(r.Context()), func(now coherence.Report) {
		step := showProgress(revocation.SoFar(now), false)
		if revocation.Known() && (!wrote || step.Refusing != last.Refusing || step.Cut != last.Cut) {
			line(step)
			last = step
		}
	})
	switch {
	case err == nil:
		line(showProgress(revoked, true))
	case !wrote:
		return err
	default: // the status is sent: an end without the last step is told from one with it
		refusal := x.Report(r, err)
		_ = p.ui.Fragment(w, p.frame(r, x), ui.Problem{Status: refusal.Status, Code: "unavailable", RequestID: x.Request.ID})
	}
	return nil
}

// showProgress is how far a revocation has come, as the page shows it. An instance without a
// lease refuses the key like one that has acknowledged, so both are in one number.
func showProgress(r *admin.Revoked, done bool) ui.Revoked {
	expired := len(r.Report.Expired)
	return ui.Revoked{
		Label: cmp.Or(r.Label, r.ID.String()), Total: r.Report.Total, Refusing: r.Report.Acknowledged + expired,
		Expired: expired, Cut: r.Report.Cut, Awaited: r.Awaited(), Done: done,
	}
}
