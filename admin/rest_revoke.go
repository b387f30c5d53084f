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

// RevokeKey answers when no instance accepts the key any more. If the caller sets a
// limit (Prefer: wait), it answers with 202 at that limit. Once the key is deleted the
// wait goes on, even if the caller goes away.
func RevokeKey(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	patience, limited := preferredWait(r.Header)
	deleting, cancel := Detached(r.Context())
	defer cancel()
	revocation, err := x.Service.Revoke(deleting, x.Actor, x.ID)
	if err != nil {
		return err
	}
	wait := revocation.Begin(context.WithoutCancel(r.Context()))
	var over <-chan time.Time
	if limited {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(patience/time.Second)))
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-wait.Done:
	case <-over:
		wait.look()
	case <-r.Context().Done():
		return nil
	}
	select {
	case <-wait.Done:
		if wait.Err != nil {
			return wait.Err
		}
		WriteJSON(w, http.StatusOK, one(ShowRevoked(wait.Revoked), keysPath+"/"+x.ID.String()))
	default:
		WriteJSON(w, http.StatusAccepted, one(ShowRevoked(wait.SoFar()), keysPath+"/"+x.ID.String()))
	}
	return nil
}

// Waiting is the wait for a revocation, in the background.
type Waiting struct {
	// Done is closed when there is an outcome: Revoked or Err.
	Done    chan struct{}
	Revoked *Revoked
	Err     error

	revocation *Revocation
	last       atomic.Pointer[coherence.Report]
	looked     chan struct{} // closed when there is a last report
}

// Begin waits in the background. The wait ends with ctx.
func (r *Revocation) Begin(ctx context.Context) *Waiting {
	w := &Waiting{revocation: r, looked: make(chan struct{}), Done: make(chan struct{})}
	go func() {
		defer close(w.Done)
		w.Revoked, w.Err = r.Wait(ctx, func(now coherence.Report) {
			if w.last.Swap(&now) == nil {
				close(w.looked)
			}
		})
	}()
	return w
}

// look waits until there is a first report, so that an early answer can name the
// awaited instances.
func (w *Waiting) look() {
	patience := time.NewTimer(callTimeout)
	defer patience.Stop()
	select {
	case <-w.looked:
	case <-w.Done:
	case <-patience.C:
	}
}

// SoFar says how far the revocation has come.
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
