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

// revoke answers when no instance accepts the key any more, or, if the caller
// prefers so, with 202 when its patience is over. Once the key is deleted the
// wait goes on whatever becomes of the caller.
func revoke(w http.ResponseWriter, r *http.Request, x *exchange) error {
	patience, limited := preferredWait(r.Header)
	deleting, cancel := detached(r.Context())
	defer cancel()
	revocation, err := x.service.Revoke(deleting, x.actor, x.id)
	if err != nil {
		return err
	}
	wait := revocation.begin(context.WithoutCancel(r.Context()))
	var over <-chan time.Time
	if limited {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(patience/time.Second)))
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-wait.done:
	case <-over:
		wait.look()
	case <-r.Context().Done():
		return nil
	}
	select {
	case <-wait.done:
		if wait.err != nil {
			return wait.err
		}
		writeJSON(w, http.StatusOK, one(ShowRevoked(wait.revoked), keysPath+"/"+x.id.String()))
	default:
		writeJSON(w, http.StatusAccepted, one(ShowRevoked(wait.soFar()), keysPath+"/"+x.id.String()))
	}
	return nil
}

// waiting is the wait for a revocation, in the background.
type waiting struct {
	revocation *Revocation
	last       atomic.Pointer[coherence.Report]
	looked     chan struct{} // closed when there is a last report
	done       chan struct{} // closed when there is an outcome
	revoked    *Revoked
	err        error
}

func (r *Revocation) begin(ctx context.Context) *waiting {
	w := &waiting{revocation: r, looked: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.revoked, w.err = r.Wait(ctx, func(now coherence.Report) {
			if w.last.Swap(&now) == nil {
				close(w.looked)
			}
		})
	}()
	return w
}

// look waits until there is something to say to who is out of patience: who is
// awaited, at least.
func (w *waiting) look() {
	patience := time.NewTimer(callTimeout)
	defer patience.Stop()
	select {
	case <-w.looked:
	case <-w.done:
	case <-patience.C:
	}
}

// soFar is how far it has come.
func (w *waiting) soFar() *Revoked {
	var report coherence.Report
	if now := w.last.Load(); now != nil {
		report = *now
	}
	return w.revocation.soFar(report)
}

// preferredWait reads how long the caller wants to wait, as RFC 7240 section 4.3
// has it. What cannot be understood is ignored, as section 2 says; the first of
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
