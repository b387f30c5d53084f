package fleet_test

import (
	"net/http"
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

// TestShortLeasesBehindAPooler has leases in whose time a feed must open that waits
// in vain for a notification.
func TestShortLeasesBehindAPooler(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
		t.Run(lease.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 0, lease, "")
			f.pooler = testenv.StartPooler(t, f.postgres).Addr()
			f.start() // and waits until it serves
			key, plain := f.mint("bot")
			eventually(t, "the key is good", func() bool {
				status, _ := f.instances[0].get("/ok", plain)
				return status == http.StatusOK
			})
			mustRevoke(t, f.instances[0], key)
			if status, body := f.instances[0].get("/ok", plain); status != http.StatusUnauthorized && status != http.StatusServiceUnavailable {
				t.Errorf("after the answer: %d %s", status, body)
			}
		})
	}
}
