package fleet_test

import (
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// Case 28: behind a pooler no notification arrives. Changes are looked for four
// times a second then.
func TestRevocationsBehindAPooler(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, 10*time.Second, "")
	f.pooler = testenv.StartPooler(t, f.postgres).Addr()
	f.start()
	f.start()
	for range 5 {
		key, plain := f.mint("bot")
		l := hammer(t, key, plain, f.instances...)
		stream := openEvents(t, f.instances[1], plain)
		asked := time.Now()
		answered, took, body := mustRevoke(t, f.instances[0], key)
		stream.wantEnd(t, asked, promptly)
		settle()
		l.stop()
		l.wantNoneAfter(t, answered)
		if took > promptly {
			t.Errorf("answered after %v: %s", took, body)
		}
	}
}
