package caddymodule

import (
	"fmt"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
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
