package gate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestARefusalSaysWhyAndToWhom: metrics, the access log and the audit log go by it.
func TestARefusalSaysWhyAndToWhom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err        error
		status     int
		want       gate.Reason
		retryAfter string
	}{
		"a string that nobody minted":     {verify.ReasonUnminted, 401, "unminted", ""},
		"a key that is gone":              {verify.ReasonRevoked, 401, "revoked", ""},
		"a key with another's hash":       {verify.ReasonMismatch, 401, "mismatch", ""},
		"a key whose time is over":        {fmt.Errorf("because: %w", verify.ReasonExpired), 401, "expired", ""},
		"no slot":                         {verify.Unavailable(verify.ReasonBusy, hashing.ErrBusy), 503, "busy", "1"},
		"no lease":                        {verify.Unavailable(verify.ReasonNoLease, verify.ErrNoLease), 503, "no_lease", "1"},
		"a table that is not followed":    {verify.Unavailable(verify.ReasonUnfollowed, verify.ErrUnfollowed), 503, "unfollowed", "1"},
		"a key of another service":        {&verify.UnavailableError{Reason: verify.ReasonAdoption, RetryAfter: 1500 * time.Millisecond, Err: errors.New("later")}, 503, "adoption", "2"},
		"the client is gone":              {context.Canceled, 503, "client_gone", "1"},
		"the time of the request is over": {context.DeadlineExceeded, 503, "client_gone", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := store.ID{1}
			var d gate.Decision
			d.Admitted(id, nil, c.err)
			if d.KeyID != id || d.Refusal.Reason != c.want || d.Refusal.Status != c.status || d.Refusal.Header.Get("Retry-After") != c.retryAfter {
				t.Errorf("%v %+v", d.KeyID, d.Refusal)
			}
			if !d.Refusal.Final() {
				t.Error("another handler may accept the request")
			}
		})
	}
	// A decision by an earlier handler on the network is one on the key, wherever it is looked at.
	var outside gate.Decision
	identity := &verify.Identity{Label: "fenced"}
	outside.Admitted(store.ID{1}, identity, verify.ErrNetwork)
	if r := outside.Refusal; r.Reason != gate.DeniedNetwork || r.Status != 403 || r.Code != "network_not_allowed" || len(r.Header) > 0 || !r.Final() || outside.Identity != identity {
		t.Errorf("from another network: %+v, %+v", outside.Identity, r)
	}
	if gate.Anonymous().Final() || gate.Anonymous().Reason != gate.DeniedNoKey {
		t.Error("a handler without a need for a key may not accept a request without one")
	}
}
