package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestEveryDecisionIsCounted makes requests of every kind and looks which counter
// has gone on: that one, by one, and no other.
func TestEveryDecisionIsCounted(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, key := mint(t, keys, "bot", "bots:read")
	gone, revoked := mint(t, keys, "gone")
	revokeAndWait(t, keys, gone)
	c := controlled{testenv.FreeAddress(t), testenv.FreeAddress(t)}
	config := adapt(t, c.caddyfile(b, fmt.Sprintf(`
		handle /provider {
			basic_auth {
				nobody %s
			}
			respond ok
		}
		handle /strict {
			system_key_auth {
				require bots:write
			}
		}
		handle /open {
			system_key_auth {
				passthrough
			}
			respond ok
		}
		handle /limited {
			system_key_auth {
				failure_limit 1 1h
			}
		}
		handle {
			system_key_auth
			respond ok
		}`, "$2a$04$u8dSDfjXCoQwHVyTCeRHOeNxuNMA3iGq2gkpyBHPE9YXJHTkNZRZ2")))
	loadJSON(t, []byte(strings.Replace(string(config), `"providers":{"http_basic":{`, `"providers":{"system_key":{"require":["bots:read"]},"http_basic":{`, 1)))
	unminted := key[:len(key)-1] + "-"
	for _, request := range []struct {
		name, path, authorization string
		status                    int
		result, reason            string
	}{
		{"a good key", "/", "Bearer " + key, 200, "allowed", "key"},
		{"none, with passthrough", "/open", "", 200, "allowed", "anonymous"},
		{"none", "/", "", 401, "denied", "no_key"},
		{"a key of the wrong characters", "/", "Bearer " + unminted, 401, "denied", "unminted"},
		{"a revoked key", "/", "Bearer " + revoked, 401, "denied", "revoked"},
		{"a key without a permission", "/strict", "Bearer " + key, 403, "denied", "permission"},
		{"a key in the query", "/?token=" + key, "", 400, "denied", "misplaced"},
		{"a key under another scheme", "/", "Token " + key, 401, "denied", "malformed"},
		{"a bad key within the limit", "/limited", "Bearer " + revoked, 401, "denied", "revoked"},
		{"a bad key beyond the limit", "/limited", "Bearer " + revoked, 429, "denied", "too_many_failures"},
		{"a good key at the provider", "/provider", "Bearer " + key, 200, "allowed", "key"},
		{"a revoked key at the provider", "/provider", "Bearer " + revoked, 401, "denied", "revoked"},
		{"none at the provider", "/provider", "", 401, "denied", "no_key"},
	} {
		before := c.decisions(t)
		if status, _, body := get(t, "http://"+c.site+request.path, request.authorization); status != request.status {
			t.Errorf("%s: %d %s", request.name, status, body)
		}
		for decision, n := range c.decisions(t) {
			want := before[decision]
			if decision == request.result+" "+request.reason {
				want++
			}
			if n != want {
				t.Errorf("%s: %q went from %v to %v", request.name, decision, before[decision], n)
			}
		}
	}
}

// decisions are the counters, by result and reason.
func (c controlled) decisions(tb testing.TB) map[string]float64 {
	tb.Helper()
	families, _ := c.scrape(tb)
	all := make(map[string]float64)
	for _, m := range families[metricPrefix+"decisions_total"].GetMetric() {
		all[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	return all
}

// TestACutIsCounted revokes the key of a request in flight.
func TestACutIsCounted(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "bot")
	c := runControlled(t, b, "system_key_auth\nreverse_proxy "+ticks(t))
	before, _ := c.scrape(t)
	began, ended := make(chan struct{}), make(chan error, 1)
	go stream(c.site, plain, began, ended)
	<-began
	during, _ := c.scrape(t)
	if n := value(during, "requests_in_flight"); n != 1 {
		t.Errorf("%v requests are in flight", n)
	}
	revokeAndWait(t, keys, key)
	if err := <-ended; errors.Is(err, io.EOF) {
		t.Error("the request in flight has ended as if it were whole")
	}
	eventually(t, "the cut is counted", func() bool {
		after, _ := c.scrape(t)
		return value(after, "cuts_total", "reason", "key") == value(before, "cuts_total", "reason", "key")+1 && value(after, "requests_in_flight") == 0
	})
	if status, _, _ := get(t, "http://"+c.site+"/", "Bearer "+plain); status != http.StatusUnauthorized {
		t.Errorf("%d", status)
	}
}
