package integration_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// asking is a service that says what it has asked of the key: one field for each that the
// client names in the query, before an informational answer and before the final one.
func asking(tb testing.TB) string {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, line := range r.URL.Query()["ask"] {
			w.Header().Add("X-Lumio-Required", line)
		}
		if r.URL.Query().Has("early") {
			w.WriteHeader(http.StatusEarlyHints)
		}
		_, _ = fmt.Fprint(w, "hello")
	}))
	tb.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// asked are the permissions of an activity.
func asked(a *store.Activity) (permissions []string) {
	for _, p := range a.Asked {
		permissions = append(permissions, p.Permission)
	}
	return permissions
}

// TestWhatAKeyIsUsedFor goes through every way that is counted.
func TestWhatAKeyIsUsedFor(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			b.options += "\nlast_used_interval 100ms"
			keys := b.keys(t)
			url := "http://" + run(t, b, fmt.Sprintf(`
				handle /require/* {
					system_key_auth {
						require a:read
					}
					reverse_proxy %[1]s
				}
				handle /matcher/* {
					system_key_auth
					@may system_key {
						permission c:read
					}
					respond @may yes
					respond no
				}
				handle {
					system_key_auth
					reverse_proxy %[1]s
				}`, asking(t)))
			key, plain := mint(t, keys, "key", "a:read", "b:read", "c:read", "unused:x")
			other, otherPlain := mint(t, keys, "other")
			call := func(path, key string, want int) {
				t.Helper()
				status, header, body := get(t, url+path, "Bearer "+key)
				if status != want {
					t.Errorf("%s: %d %s", path, status, body)
				}
				if lines := header.Values("X-Lumio-Required"); lines != nil {
					t.Errorf("%s: the client reads %q", path, lines)
				}
			}
			call("/require/x", plain, 200)
			call("/matcher/x", plain, 200)
			call("/?ask=b:read,+d:read,&ask=e:read&ask=NOT%20ONE", plain, 200)
			call("/?ask=f:read&early", plain, 200)
			call("/require/x", otherPlain, 403)
			call("/", otherPlain, 200)
			// All requests were on one day, or on two.
			wait := func(id store.ID, requests, denied int64) *store.Activity {
				var a *store.Activity
				eventually(t, "all is written", func() bool {
					var err error
					if a, err = keys.Store.Activity(t.Context(), id); err != nil {
						t.Fatal(err)
					}
					var sum store.DayUse
					for _, d := range a.Days {
						sum.Requests, sum.Denied = sum.Requests+d.Requests, sum.Denied+d.Denied
					}
					return sum.Requests == requests && sum.Denied == denied
				})
				return a
			}
			a := wait(key.ID, 4, 0)
			if diff := cmp.Diff([]string{"a:read", "b:read", "c:read", "d:read", "e:read", "f:read"}, asked(a)); diff != "" {
				t.Error(diff)
			}
			if len(a.Networks) != 1 || a.Networks[0].Network.String() != "127.0.0.0/24" || a.Networks[0].Requests != 4 ||
				a.FirstUsedAt.IsZero() || a.LastUsedAt.Before(a.FirstUsedAt) {
				t.Errorf("%+v", a)
			}
			if diff := cmp.Diff([]string{"a:read"}, asked(wait(other.ID, 2, 1))); diff != "" {
				t.Error(diff)
			}
			if time.Since(a.LastUsedAt) > time.Hour {
				t.Errorf("last used at %v", a.LastUsedAt)
			}
		})
	}
}
