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
	type result struct {
		revoked *Revoked
		err     error
	}
	var last atomic.Pointer[coherence.Report]
	looked := make(chan struct{})
	done := make(chan result, 1)
	go func() {
		revoked, err := revocation.Wait(context.WithoutCancel(r.Context()), func(now coherence.Report) {
			if last.Swap(&now) == nil {
				close(looked)
			}
		})
		done <- result{revoked, err}
	}()
	var over <-chan time.Time
	if limited {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(patience/time.Second)))
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case result := <-done:
		if result.err != nil {
			return result.err
		}
		writeJSON(w, http.StatusOK, one(ShowRevoked(result.revoked), r.URL.Path))
	case <-over:
		if revocation.key == nil {
			result := <-done // there is nothing to say but the end of it
			return result.err
		}
		select { // at least who is awaited is to be said
		case <-looked:
		case result := <-done:
			if result.err != nil {
				return result.err
			}
			writeJSON(w, http.StatusOK, one(ShowRevoked(result.revoked), r.URL.Path))
			return nil
		case <-time.After(callTimeout):
		}
		var report coherence.Report
		if now := last.Load(); now != nil {
			report = *now
		}
		writeJSON(w, http.StatusAccepted, one(ShowRevoked(revocation.revoked(report)), r.URL.Path))
	case <-r.Context().Done():
	}
	return nil
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
