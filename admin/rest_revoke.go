package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
)

// RevokeKey answers when no instance accepts the key any more, or when the limit that the caller
// has set is over. To revoke a key again waits again, so a client may repeat the call until it
// gets an answer.
func RevokeKey(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	deleting, cancel := Detached(r.Context())
	defer cancel()
	revocation, err := x.Service.Revoke(deleting, x.Actor, x.ID)
	if err != nil {
		return err
	}
	return answerRevocation(w, r, revocation, func(revoked *Revoked) envelope {
		return x.keyAnswer(ShowRevoked(revoked), "/"+x.ID.String())
	})
}

// revokeKeys is [RevokeKey] for all keys that the query names. With dry_run it only lists
// them.
func revokeKeys(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	if err := x.Service.Allow(x.Actor, PermissionDelete); err != nil {
		return err // whoever may not do it learns nothing about the query
	}
	filter, dryRun, err := revokeQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	query := "?" + r.URL.RawQuery
	ctx, cancel := Detached(r.Context())
	defer cancel()
	if dryRun {
		keys, err := x.Service.Matching(ctx, x.Actor, filter)
		if err != nil {
			return err
		}
		WriteJSON(w, http.StatusOK, x.keyAnswer(ShowMatching(keys), query))
		return nil
	}
	revocation, err := x.Service.RevokeMany(ctx, x.Actor, filter)
	if err != nil {
		return err
	}
	return answerRevocation(w, r, revocation, func(revoked *Revoked) envelope { return x.keyAnswer(ShowRevokedKeys(revoked), query) })
}

// answerRevocation waits for the end of a revocation. If the caller sets a limit (Prefer: wait),
// it answers with 202 at that limit. The wait goes on, even if the caller goes away. A caller
// that is gone gets no answer.
func answerRevocation(w http.ResponseWriter, r *http.Request, revocation *Revocation, show func(*Revoked) envelope) error {
	limit, limited := preferredWait(r.Header)
	wait := revocation.Begin(context.WithoutCancel(r.Context()))
	var over <-chan time.Time
	if limited {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(limit/time.Second)))
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-wait.Done:
	case <-over:
		wait.awaitReport()
	case <-r.Context().Done():
		return nil
	}
	select {
	case <-wait.Done:
		if wait.Err != nil {
			return wait.Err
		}
		WriteJSON(w, http.StatusOK, show(wait.Revoked))
	default:
		WriteJSON(w, http.StatusAccepted, show(wait.SoFar()))
	}
	return nil
}

// Waiting is the wait for a revocation, in the background. Revoked and Err may be read once Done
// is closed.
type Waiting struct {
	// Done is closed when there is an outcome: Revoked or Err.
	Done    chan struct{}
	Revoked *Revoked
	Err     error

	revocation *Revocation
	last       atomic.Pointer[coherence.Report]
	reported   chan struct{} // closed at the first report
}

// Begin waits in the background. The wait ends with ctx. Nobody has to collect the outcome.
func (r *Revocation) Begin(ctx context.Context) *Waiting {
	w := &Waiting{revocation: r, reported: make(chan struct{}), Done: make(chan struct{})}
	go func() {
		defer close(w.Done)
		w.Revoked, w.Err = r.Wait(ctx, func(now coherence.Report) {
			if w.last.Swap(&now) == nil {
				close(w.reported)
			}
		})
	}()
	return w
}

// awaitReport waits until there is a first report, so that an early answer can name the
// awaited instances.
func (w *Waiting) awaitReport() {
	timer := time.NewTimer(callTimeout)
	defer timer.Stop()
	select {
	case <-w.reported:
	case <-w.Done:
	case <-timer.C:
	}
}

// SoFar says how far the revocation has come. It can be called at any time.
func (w *Waiting) SoFar() *Revoked {
	var report coherence.Report
	if now := w.last.Load(); now != nil {
		report = *now
	}
	return w.revocation.SoFar(report)
}

// preferredWait reads how long the caller wants to wait (RFC 7240 section 4.3). It
// ignores a preference that it cannot understand, as section 2 says. The first of
// several counts.
func preferredWait(h http.Header) (time.Duration, bool) {
	for preference := range strings.SplitSeq(strings.Join(h.Values("Prefer"), ","), ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		return time.Duration(seconds) * time.Second, err == nil
	}
	return 0, false
}
