package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// metricPrefix begins the names of our metrics.
const metricPrefix = "caddy_system_keys_"

// labelValues are all values that labels of our metrics may ever have, by label.
var labelValues = map[string][]string{
	"result": {"allowed", "denied", "unavailable", "abandoned", "ok", "canceled", "timeout", "error"},
	"reason": {
		"key", "earlier_handler", "anonymous", "no_key", "malformed", "misplaced", "unminted", "revoked", "mismatch", "expired", "network", "permission", "unfollowed",
		"invalid_request", "too_many_failures", "busy", "no_lease", "not_ready", "adoption", "assertion", "store", "client_gone", "lapsed",
	},
	"path": {"memory", "row", "proof", "argon2id"},
	"operation": {
		"key", "keys", "granted", "create_key", "delete_key", "delete_keys", "match_keys", "rehash_key", "adopted", "adopt", "unadopted", "record_use", "activity", "asked", "report_networks", "progress", "append_audit", "audit", "session",
		"create_session", "end_session", "spend_nonce", "signing_keys", "get", "set",
	},
	"outcome": {"memory", "index", "search", "none", "waiting", "busy", "failed"},
	"state":   {"closed", "half_open", "open"},
	"within":  {"1d", "7d", "30d"},
}

// controlled is a Caddy with its admin endpoint.
type controlled struct{ site, control string }

// runControlled starts a Caddy whose admin endpoint is on.
func runControlled(tb testing.TB, b *backend, site string) controlled {
	tb.Helper()
	c := controlled{testenv.FreeAddress(tb), testenv.FreeAddress(tb)}
	load(tb, c.caddyfile(b, site))
	return c
}

func (c controlled) caddyfile(b *backend, site string) string {
	options := strings.Replace(globals(b.options+"\n"+cheap), "admin off", "admin "+c.control, 1)
	return options + fmt.Sprintf("http://%s {\n%s\n}\n", c.site, site)
}

// ask reads from the admin endpoint. Caddy replaces its listener at every reload,
// with connections that the old one has not accepted: it is asked again then.
func (c controlled) ask(tb testing.TB, path string) (status int, header http.Header, body string) {
	tb.Helper()
	eventually(tb, "the admin endpoint answers", func() bool {
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+c.control+path, http.NoBody))
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		status, header, body = response.StatusCode, response.Header, string(text)
		return err == nil
	})
	return status, header, body
}

// scrape returns our metrics, and the text that they were read from.
func (c controlled) scrape(tb testing.TB) (map[string]*dto.MetricFamily, string) {
	tb.Helper()
	status, _, text := c.ask(tb, "/metrics")
	if status != http.StatusOK {
		tb.Fatalf("%d %s", status, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	ours := make(map[string]*dto.MetricFamily)
	for name, family := range families {
		if strings.HasPrefix(name, metricPrefix) {
			ours[name] = family
		}
	}
	return ours, text
}

// value is that of the series with these labels, given as name and value in turn;
// of a histogram the number of observations. Without such a series it is -1.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	family := families[metricPrefix+name]
	for _, m := range family.GetMetric() {
		got := make([]string, 0, len(labels))
		for _, label := range m.GetLabel() {
			got = append(got, label.GetName(), label.GetValue())
		}
		if !slices.Equal(got, labels) {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	return -1
}

// story plays the first story through a site: mint, use, revoke, be refused.
func story(tb testing.TB, site, rootKey string) (key string) {
	tb.Helper()
	url := "http://" + site
	status, _, body := do(tb, http.MethodPost, url+plane.KeysPath, "Bearer "+rootKey, strings.NewReader(`{"label":"Twitch Bot Key","permissions":["bots:read"]}`))
	if status != http.StatusCreated {
		tb.Fatalf("%d %s", status, body)
	}
	key = createdKey([]byte(body))
	_, id, _ := strings.Cut(body, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	for range 3 {
		if status, _, body = get(tb, url+"/hello", "Bearer "+key); status != http.StatusOK {
			tb.Fatalf("%d %s", status, body)
		}
	}
	if status, _, _ = get(tb, url+"/hello", ""); status != http.StatusUnauthorized {
		tb.Fatalf("%d without a key", status)
	}
	if status, _, body = do(tb, http.MethodDelete, url+plane.KeysPath+"/"+id, "Bearer "+rootKey, nil); status != http.StatusOK {
		tb.Fatalf("%d %s", status, body)
	}
	if status, _, _ = get(tb, url+"/hello", "Bearer "+key); status != http.StatusUnauthorized {
		tb.Fatalf("%d after the revocation", status)
	}
	return key
}

// storySite is a site of everything.
func storySite(tb testing.TB) string {
	tb.Helper()
	return "system_keys_admin\nsystem_key_auth\nreverse_proxy " + echo(tb)
}

// root makes a system admin's key.
func root(tb testing.TB, keys *admin.Service) string {
	tb.Helper()
	_, key, err := keys.Create(tb.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// TestMetricsAfterTheStory plays it and reads what was counted.
func TestMetricsAfterTheStory(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			rootKey := root(t, keys)
			b.options += "\nlast_used_interval 100ms"
			c := runControlled(t, b, storySite(t))
			before, _ := c.scrape(t) // this process has counted for other tests
			key := story(t, c.site, rootKey)
			after, text := c.scrape(t)

			grown := func(name string, labels ...string) float64 {
				return value(after, name, labels...) - max(0, value(before, name, labels...))
			}
			for name, got := range map[string]struct{ got, want float64 }{
				"let through":       {grown("decisions_total", "reason", "key", "result", "allowed"), 3},
				"without a key":     {grown("decisions_total", "reason", "no_key", "result", "denied"), 1},
				"revoked":           {grown("decisions_total", "reason", "revoked", "result", "denied"), 1},
				"Argon2id":          {grown("verification_duration_seconds", "path", "argon2id"), 2}, // the admin's key and the bot's
				"deletions":         {grown("store_call_duration_seconds", "operation", "delete_key", "result", "ok"), 1},
				"revocations":       {grown("revocation_duration_seconds"), 1},
				"from memory":       {value(after, "memory_hits_total"), 3}, // two of the bot, one of the admin
				"ready":             {value(after, "ready"), 1},
				"no audit loss":     {value(after, "audit_dropped_total"), 0},
				"no queue":          {value(after, "argon2id_queue_length"), 0},
				"the lease":         {value(after, "lease_duration_seconds"), 30},
				"watched":           {value(after, "changes_watched"), 1},
				"nothing in flight": {value(after, "requests_in_flight"), 0},
			} {
				if got.got != got.want {
					t.Errorf("%s: %v, want %v", name, got.got, got.want)
				}
			}
			if age := value(after, "lease_age_seconds"); age < 0 || age > 30 {
				t.Errorf("the lease is %v s old", age)
			}
			if left := value(after, "lease_remaining_seconds"); left <= 0 || left > 30 {
				t.Errorf("the lease holds for %v s", left)
			}
			for _, secret := range []string{key, key[7:], key[7:29], rootKey, rootKey[7:], "Twitch", "lm_sys_", "$argon2id"} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in the metrics", secret)
				}
			}
			checkFamilies(t, after, text)
		})
	}
}

// TestMetricsWithoutTheAdminEndpoint has them from Caddy's `metrics` handler on a
// port of its own, as the files under deploy are scraped.
func TestMetricsWithoutTheAdminEndpoint(t *testing.T) {
	b := onPostgres(t)
	_, key := mint(t, b.keys(t), "bot")
	c := controlled{testenv.FreeAddress(t), testenv.FreeAddress(t)}
	load(t, fmt.Sprintf("%shttp://%s {\nsystem_key_auth\nreverse_proxy %s\n}\nhttp://%s {\nmetrics\n}\n",
		globals(b.options+"\n"+cheap), c.site, echo(t), c.control))
	if status, _, body := get(t, "http://"+c.site, "Bearer "+key); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	families, text := c.scrape(t)
	checkFamilies(t, families, text)
	if n := value(families, "decisions_total", "reason", "key", "result", "allowed"); n < 1 || value(families, "ready") != 1 {
		t.Errorf("%v requests are counted:\n%s", n, ourLines(text))
	}
}

// checkFamilies looks at help texts, at all labels and their values, and at what
// Prometheus has against a name.
func checkFamilies(t *testing.T, families map[string]*dto.MetricFamily, text string) {
	t.Helper()
	if len(families) < 20 {
		t.Fatalf("there are %d metrics only:\n%s", len(families), text)
	}
	for name, family := range families {
		if len(family.GetHelp()) < 10 {
			t.Errorf("%s has no help text", name)
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if !slices.Contains(labelValues[label.GetName()], label.GetValue()) {
					t.Errorf("%s has the label %s=%q", name, label.GetName(), label.GetValue())
				}
			}
		}
	}
	problems, err := promlint.New(bytes.NewReader([]byte(ourLines(text)))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]promlint.Problem(nil), problems); diff != "" {
		t.Errorf("Prometheus has something against our metrics:\n%s", diff)
	}
}

// ourLines are those of an exposition that are about our metrics.
func ourLines(text string) string {
	var ours strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, metricPrefix) {
			ours.WriteString(line)
		}
	}
	return ours.String()
}
