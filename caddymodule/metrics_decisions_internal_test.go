package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
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
		want     decision
	}{
		"no key":                          {gate.Anonymous(), nil, nil, deniedNoKey},
		"no key, and an earlier handler":  {gate.Anonymous(), good, nil, deniedNoKey},
		"a key of the wrong shape":        {gate.Invalid(), nil, nil, deniedMalformed},
		"a string that nobody minted":     {gate.Invalid(), nil, verify.ReasonUnminted, deniedUnminted},
		"a key that is gone":              {gate.Invalid(), nil, verify.ReasonUnknown, deniedUnknown},
		"a key with another's hash":       {gate.Invalid(), nil, verify.ReasonMismatch, deniedMismatch},
		"a key whose time is over":        {gate.Invalid(), nil, verify.ReasonExpired, deniedExpired},
		"too many of them":                {gate.TooMany(time.Second), nil, verify.ReasonUnknown, deniedTooMany},
		"a permission is missing":         {&gate.Refusal{Status: http.StatusForbidden}, good, nil, deniedScope},
		"two keys":                        {&gate.Refusal{Status: http.StatusBadRequest}, nil, nil, deniedRequest},
		"CONNECT":                         {&gate.Refusal{Status: http.StatusMethodNotAllowed}, nil, nil, deniedRequest},
		"no slot":                         {unavailable(verify.ErrBusy), nil, nil, unavailableBusy},
		"no slot in time":                 {unavailable(fmt.Errorf("%w: %w", verify.ErrBusy, context.DeadlineExceeded)), nil, nil, unavailableBusy},
		"a key of another service":        {unavailable(fmt.Errorf("%w: it is searched for", adopt.ErrLater)), nil, nil, unavailableAdoption},
		"no lease":                        {unavailable(verify.ErrNoLease), nil, nil, unavailableLease},
		"the store is not open yet":       {unavailable(engine.ErrNotReady), nil, nil, unavailableNotOpen},
		"the store is closed":             {unavailable(store.ErrClosed), nil, nil, unavailableNotOpen},
		"the store does not answer":       {unavailable(errors.New("connection refused")), nil, nil, unavailableStore},
		"it, and an earlier handler":      {unavailable(errors.New("connection refused")), good, nil, unavailableStore},
		"the assertion cannot be signed":  {gate.Unavailable(time.Second, errors.New("no key")), good, nil, unavailableAssertion},
		"the client is gone":              {gate.Refuse(context.Canceled), nil, context.Canceled, abandonedClient},
		"the time of the request is over": {gate.Refuse(context.DeadlineExceeded), nil, nil, abandonedClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := decisionOf(c.refusal, c.identity, c.err)
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if !slices.Contains(allDecisions(), got) {
				t.Errorf("%+v is not counted", got)
			}
		})
	}
}

func TestToCountAGoodKeyDoesNotAllocate(t *testing.T) {
	identity := new(verify.Identity)
	if n := testing.AllocsPerRun(100, func() { measured.decisions.allowed(true, identity) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
