package app

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/source"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestTheEngineInThePoolPrintsNoSecret prints it as the pool's panics do.
func TestTheEngineInThePoolPrintsNoSecret(t *testing.T) {
	t.Parallel()
	e, err := engine.New(engine.Config{Settings: engine.Settings{
		Argon2id: phc.Default(), HashMemory: defaultHashMemory, Secrets: [][]byte{[]byte("topsecret")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := pooled{e}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, p); text != "system_keys engine" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// TestOtherFilesOfRedisAreAnotherEngine although their names are the same.
func TestOtherFilesOfRedisAreAnotherEngine(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue("client")
	r := &source.Redis{URL: []string{"rediss://localhost"}, Cert: &source.RedisCert{File: cert, Key: key}}
	keyOf := func() poolKey {
		t.Helper()
		s, err := r.Resolve(caddy.NewReplacer(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return (&settings{Redis: s}).key()
	}
	before := keyOf()
	if keyOf() != before {
		t.Error("the same files are another engine")
	}
	authority.Issue("client") // over the old one
	if keyOf() == before {
		t.Error("the engine does not change with its files")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve(caddy.NewReplacer(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is gone is taken")
	}
}
