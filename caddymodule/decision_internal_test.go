package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestEveryRefusalIsADecision(t *testing.T) {
	t.Parallel()
	good := new(verify.Identity)
	unavailable := func(err error) *gate.Refusal {
		return gate.Refuse(&verify.UnavailableError{RetryAfter: time.Second, Err: fmt.Errorf("because: %w", err)})
	}
	for name, c := range map[string]struct {
		refusal  *gate.Refusal
		identity *verify.Identity
		err      error
		want     metrics.Decision
	}{
		"no key":                          {gate.Anonymous(), nil, nil, metrics.DeniedNoKey},
		"no key, and an earlier handler":  {gate.Anonymous(), good, nil, metrics.DeniedNoKey},
		"a key of the wrong shape":        {gate.Invalid(), nil, nil, metrics.DeniedMalformed},
		"a string that nobody minted":     {gate.Invalid(), nil, verify.ReasonUnminted, metrics.DeniedUnminted},
		"a key that is gone":              {gate.Invalid(), nil, verify.ReasonUnknown, metrics.DeniedRevoked},
		"a key with another's hash":       {gate.Invalid(), nil, verify.ReasonMismatch, metrics.DeniedMismatch},
		"a key whose time is over":        {gate.Invalid(), nil, verify.ReasonExpired, metrics.DeniedExpired},
		"too many of them":                {gate.TooMany(time.Second), nil, verify.ReasonUnknown, metrics.DeniedTooMany},
		"a permission is missing":         {&gate.Refusal{Status: http.StatusForbidden}, good, nil, metrics.DeniedPermission},
		"two keys":                        {&gate.Refusal{Status: http.StatusBadRequest}, nil, nil, metrics.DeniedRequest},
		"CONNECT":                         {&gate.Refusal{Status: http.StatusMethodNotAllowed}, nil, nil, metrics.DeniedRequest},
		"no slot":                         {unavailable(verify.ErrBusy), nil, nil, metrics.UnavailableBusy},
		"no slot in time":                 {unavailable(fmt.Errorf("%w: %w", verify.ErrBusy, context.DeadlineExceeded)), nil, nil, metrics.UnavailableBusy},
		"a key of another service":        {unavailable(fmt.Errorf("%w: it is searched for", adopt.ErrLater)), nil, nil, metrics.UnavailableAdoption},
		"no lease":                        {unavailable(verify.ErrNoLease), nil, nil, metrics.UnavailableLease},
		"the store is not open yet":       {unavailable(engine.ErrNotReady), nil, nil, metrics.UnavailableNotReady},
		"the store is closed":             {unavailable(store.ErrClosed), nil, nil, metrics.UnavailableNotReady},
		"the store does not answer":       {unavailable(errors.New("connection refused")), nil, nil, metrics.UnavailableStore},
		"it, and an earlier handler":      {unavailable(errors.New("connection refused")), good, nil, metrics.UnavailableStore},
		"the assertion cannot be signed":  {gate.Unavailable(time.Second, errors.New("no key")), good, nil, metrics.UnavailableAssertion},
		"the client is gone":              {gate.Refuse(context.Canceled), nil, context.Canceled, metrics.AbandonedClient},
		"the time of the request is over": {gate.Refuse(context.DeadlineExceeded), nil, nil, metrics.AbandonedClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := decisionOf(c.refusal, c.identity, c.err)
			if got != c.want {
				t.Errorf("got %s, want %s", got.Reason(), c.want.Reason())
			}
		})
	}
}

func TestToCountAGoodKeyDoesNotAllocate(t *testing.T) {
	identity := new(verify.Identity)
	if n := testing.AllocsPerRun(100, func() { countAllowed(true, identity) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
