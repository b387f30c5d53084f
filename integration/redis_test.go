package integration_test

import (
	"net/http"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/caddymodule"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestNoRequestFailsForRedis verifies keys that are new to the instance while
// Redis is well, gone, silent, and back with nothing in it.
func TestNoRequestFailsForRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	b := postgresAt(testenv.Database(t), "redis "+server.URL()+"\nsecret 0123456789abcdef0123456789abcdef")
	keys := b.keys(t)
	address := run(t, b, "system_key_auth\nreverse_proxy "+echo(t))
	for _, state := range []struct {
		name  string
		enter func()
	}{
		{"well", func() {}},
		{"killed", server.Kill},
		{"started again, empty", server.Start},
		{"paused", server.Pause},
		{"resumed", server.Resume},
		{"flushed", server.FlushAll},
	} {
		state.enter()
		for range 5 {
			_, plain := mint(t, keys, state.name)
			if status, _, body := get(t, "http://"+address, "Bearer "+plain); status != http.StatusOK {
				t.Errorf("%s: %d %s", state.name, status, body)
			}
		}
		// Nor does it keep a revoked key alive.
		key, plain := mint(t, keys, state.name)
		if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusOK {
			t.Errorf("%s: %d", state.name, status)
		}
		revokeAndWait(t, keys, key)
		if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusUnauthorized {
			t.Errorf("%s: %d after the revocation was answered", state.name, status)
		}
	}
}

// TestRedisSparesARestartedInstanceTheWork restarts an instance: what it verified before costs it a row
// and no Argon2id.
func TestRedisSparesARestartedInstanceTheWork(t *testing.T) {
	b := onPostgres(t)
	_, plain := mint(t, b.keys(t), "bot")
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	if n := caddymodule.Stats().Argon2Runs; n != 1 {
		t.Fatalf("%d Argon2id computations at first", n)
	}
	s.options += "\nlease 10s" // an engine of its own
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	if stats := caddymodule.Stats(); stats.Argon2Runs != 0 || stats.RowReads != 1 {
		t.Errorf("after the restart: %+v", stats)
	}
}
