package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// collector takes what is exported over OTLP, as it is.
type collector struct {
	mu   sync.Mutex
	got  bytes.Buffer
	site *httptest.Server
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	c.site = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = io.Copy(&c.got, r.Body)
	}))
	t.Cleanup(c.site.Close)
	return c
}

func (c *collector) has(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.got.Bytes(), []byte(text))
}

// TestTheWorkOfARequestIsTraced looks for the spans where Caddy exports its own.
func TestTheWorkOfARequestIsTraced(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.site.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	b := onPostgres(t)
	keys := b.keys(t)
	rootKey := root(t, keys)
	site := run(t, b, fmt.Sprintf("tracing {\nspan whole_request\n}\nsystem_keys_admin\nsystem_key_auth\nreverse_proxy %s", echo(t)))
	key := story(t, site, rootKey)
	for _, name := range []string{
		"whole_request", "look up", "store key", "redis get", "redis set", "argon2id verify", "argon2id hash",
		"store create_key", "store delete_key", "wait for instances", "postgresql",
	} {
		eventually(t, "the span "+name, func() bool { return c.has(name) })
	}
	for _, secret := range []string{key[7:29], rootKey[7:29], "lm_sys_", "Twitch", "argon2id$", "sk1:"} {
		if c.has(secret) {
			t.Errorf("%q is in the traces", secret)
		}
	}
}
