package integration_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// limited is a site with a limit of failures, behind a proxy that says who its
// clients are.
func limited(t *testing.T, b *backend, address, servers, limit, more string) {
	t.Helper()
	load(t, fmt.Sprintf(`{
		admin off
		persist_config off
		log {
			output discard
		}
		servers {
			%s
		}
		system_keys {
			%s
			%s
		}
	}
	http://%s {
		system_key_auth {
			%s
		}
		respond "upstream"
		%s
	}`, servers, b.options, cheap, address, limit, more))
}

const behindAProxy = "trusted_proxies static 127.0.0.1/32"

// from makes one request as a proxy passes it on for a client.
func from(t *testing.T, client, address, authorization string) plane.Reply {
	t.Helper()
	c := &plane.Caller{URL: "http://" + address, Authorize: func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", client)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
	}}
	return c.Call(t, http.MethodGet, "/", "")
}

// TestFailureLimit spends the budget of one address, and looks at what that
// changes for whom.
func TestFailureLimit(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, warm := mint(t, keys, "warm")
	_, cold := mint(t, keys, "cold")
	gone, revoked := mint(t, keys, "gone")
	if _, err := keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
		t.Fatal(err)
	}
	unminted := "Bearer lm_sys_" + strings.Repeat("0", 76)
	address := testenv.FreeAddress(t)
	limited(t, b, address, behindAProxy, "failure_limit 3 1h", "")
	const client, other = "192.0.2.1", "192.0.2.2"

	// What is no key that is not good does not count.
	for range 5 {
		from(t, client, address, "").Must(t, http.StatusUnauthorized, nil)
		from(t, client, address, "Basic Ym9iOnNlY3JldA==").Must(t, http.StatusUnauthorized, nil)
		from(t, client, address, "Bearer "+warm).Must(t, http.StatusOK, nil)
	}
	for _, bad := range []string{unminted, "Token " + warm, "Bearer " + revoked} {
		from(t, client, address, bad).Must(t, http.StatusUnauthorized, nil)
	}
	for _, bad := range []string{unminted, "Token " + warm, "Bearer " + revoked, "Bearer " + warm + "x", unminted} {
		a := from(t, client, address, bad).Must(t, http.StatusTooManyRequests, nil)
		if !strings.Contains(a.Body, `"code":"too_many_failures"`) || !strings.Contains(a.Body, `"status":429`) || strings.Contains(a.Body, "lm_sys_") {
			t.Errorf("the answer is %s", a.Body)
		}
		// A third of an hour, but for what has passed since.
		if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || after > 1200 || after < 1000 {
			t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
		}
		if a.Header.Get("Www-Authenticate") != "" {
			t.Errorf("it is a challenge: %v", a.Header)
		}
	}
	// A good key at the same address is served, one too that was not seen before;
	// and who has none is told so as ever.
	from(t, client, address, "Bearer "+warm).Must(t, http.StatusOK, nil)
	from(t, client, address, "Bearer "+cold).Must(t, http.StatusOK, nil)
	from(t, client, address, "").Must(t, http.StatusUnauthorized, nil)
	// And nobody else pays.
	from(t, other, address, unminted).Must(t, http.StatusUnauthorized, nil)
	from(t, "2001:db8::1", address, unminted).Must(t, http.StatusUnauthorized, nil)

	// A reload forgets nothing.
	limited(t, b, address, behindAProxy, "failure_limit 3 1h", "header X-Reloaded yes")
	if a := from(t, client, address, unminted).Must(t, http.StatusTooManyRequests, nil); a.Header.Get("X-Reloaded") == "" {
		t.Error("it was not reloaded")
	}
	from(t, client, address, "Bearer "+cold).Must(t, http.StatusOK, nil)
}

// TestFailureLimitGoesByWhoTheClientIs has a client make up who it is, which only
// a proxy that is trusted may, and error routes that answer.
func TestFailureLimitGoesByWhoTheClientIs(t *testing.T) {
	b := onSQLite(t)
	b.keys(t)
	address := testenv.FreeAddress(t)
	limited(t, b, address, "", "failure_limit 3 1h", "handle_errors {\nrespond \"{err.status_code} {err.message}\" {err.status_code}\n}")
	unminted := "Bearer lm_sys_" + strings.Repeat("0", 76)
	for i := range 3 {
		from(t, fmt.Sprintf("192.0.2.%d", i), address, unminted).Must(t, http.StatusUnauthorized, nil)
	}
	a := from(t, "192.0.2.9", address, unminted).Must(t, http.StatusTooManyRequests, nil)
	if a.Body != "429 too many system keys that are not valid came from this address" || a.Header.Get("Retry-After") == "" {
		t.Errorf("the error route answers %q, %v", a.Body, a.Header)
	}
}

// TestFailuresByDefault goes beyond the limit that nobody has configured. The answer stays
// the same, but says when to come again.
func TestFailuresByDefault(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, good := mint(t, keys, "good")
	address := testenv.FreeAddress(t)
	limited(t, b, address, behindAProxy, "", "")
	const client = "192.0.2.7" // of no other test: the count outlives this one
	unminted := "Bearer lm_sys_" + strings.Repeat("0", 76)
	var late int
	var first, last plane.Reply
	for i := range 150 { // more than a minute's 100, and what is forgotten meanwhile
		a := from(t, client, address, unminted).Must(t, http.StatusUnauthorized, nil)
		if a.Header.Get("Retry-After") != "" {
			late++
			last = a
		} else if i == 0 {
			first = a
		}
		if late == 3 {
			break
		}
	}
	if late < 3 {
		t.Fatalf("%d answers say when to come again", late)
	}
	withoutID := regexp.MustCompile(`"request_id":"[^"]*"`)
	if withoutID.ReplaceAllString(first.Body, "") != withoutID.ReplaceAllString(last.Body, "") ||
		last.Header.Get("Www-Authenticate") != first.Header.Get("Www-Authenticate") || last.Header.Get("Www-Authenticate") == "" {
		t.Errorf("the late answer is another: %s, %v", last.Body, last.Header)
	}
	from(t, client, address, "Bearer "+good).Must(t, http.StatusOK, nil)
	if a := from(t, "192.0.2.8", address, unminted).Must(t, http.StatusUnauthorized, nil); a.Header.Get("Retry-After") != "" {
		t.Error("another client pays")
	}
}
