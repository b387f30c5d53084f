package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
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
	if n := app.Stats().Argon2Runs; n != 1 {
		t.Fatalf("%d Argon2id computations at first", n)
	}
	s.options += "\nlease 10s" // an engine of its own
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	if stats := app.Stats(); stats.Argon2Runs != 0 || stats.RowReads != 1 {
		t.Errorf("after the restart: %+v", stats)
	}
}

// TestRedisWithTLSInACaddyfile has a Redis that wants a certificate of its clients, and a user
// who may read and write proofs and nothing else. Another certificate in the same file is
// taken by a reload.
func TestRedisWithTLSInACaddyfile(t *testing.T) {
	authority := testenv.NewAuthority(t)
	server := testenv.StartRedis(t, testenv.MutualTLS(authority))
	server.Command("ACL SETUSER app on >hunter2 ~sk1:* +get +set")
	certificate, key := authority.Issue("client")
	t.Setenv("SYSTEM_KEYS_TEST_REDIS", "rediss://app:hunter2@"+server.Addr())
	b := onSQLite(t)
	keys := b.keys(t)
	_, plain := mint(t, keys, "bot")
	b.options += fmt.Sprintf("\nsecret 0123456789abcdef0123456789abcdef\nredis {env.SYSTEM_KEYS_TEST_REDIS} {\nca %s\ncert %s %s\ntimeout 2s\n}",
		authority.File(), certificate, key)
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	if n := app.Stats().Argon2Runs; n != 1 {
		t.Fatalf("%d Argon2id computations at first", n)
	}
	authority.Issue("client") // over the old one
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	if stats := app.Stats(); stats.Argon2Runs != 0 || stats.RowReads != 1 {
		t.Errorf("the proof is not found with the new certificate: %+v", stats)
	}

	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := tryLoad(t, adapt(t, s.caddyfile())); err == nil || !strings.Contains(err.Error(), "redis: cert: open "+key) {
		t.Errorf("without the key's file a reload gives %v", err)
	}
	t.Setenv("SYSTEM_KEYS_TEST_REDIS", "")
	load(t, s.caddyfile()) // no Redis, so no file is read
	s.call(t, plain, http.StatusOK)
	if n := app.Stats().Argon2Runs; n != 1 {
		t.Errorf("without Redis there are %d Argon2id computations", n)
	}
}
