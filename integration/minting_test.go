package integration_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestMintingDoesNotStarveVerification has 40 clients mint without a pause in one slot,
// and uses keys that were not verified yet.
func TestMintingDoesNotStarveVerification(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	keys.Hash = hashing.NewSlots(phc.Default(), 32<<20).Hash
	_, adminKey := mint(t, keys, "admin", "admin:access", "system-keys:create")
	var live [3]string
	for i := range live {
		_, live[i] = mint(t, keys, "bot")
	}
	address := testenv.FreeAddress(t)
	load(t, globals(b.options+"\nhash_memory 32MiB\n")+
		fmt.Sprintf("http://%s {\nsystem_keys_admin\nsystem_key_auth\nreverse_proxy %s\n}\n", address, echo(t)))
	create := func() (int, string) {
		status, header, body := do(t, http.MethodPost, "http://"+address+"/v1/admin/system-keys", "Bearer "+adminKey, strings.NewReader(`{"label":"minted"}`))
		if status == http.StatusServiceUnavailable && (header.Get("Retry-After") == "" || !strings.Contains(body, `"unavailable"`)) {
			t.Errorf("minting is refused with %v %s", header, body)
		}
		return status, body
	}
	if status, body := create(); status != http.StatusCreated {
		t.Fatalf("minting got %d %s", status, body)
	}

	var stop atomic.Bool
	var minted, refused atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for !stop.Load() {
				switch status, body := create(); status {
				case http.StatusCreated:
					minted.Add(1)
				case http.StatusServiceUnavailable:
					refused.Add(1)
				default:
					t.Errorf("minting got %d %s", status, body)
				}
			}
		})
	}
	for _, plain := range live {
		for before := minted.Load(); minted.Load() < before+1; time.Sleep(10 * time.Millisecond) { // all 40 wait
			if t.Failed() {
				break
			}
		}
		// One hash is being computed for a new key, and more may be if this request is
		// refused meanwhile: on a busy machine one takes longer than a request waits.
		before := minted.Load()
		eventually(t, "a live key is verified", func() bool {
			status, _, body := get(t, "http://"+address, "Bearer "+plain)
			if status != http.StatusOK && status != http.StatusServiceUnavailable {
				t.Errorf("a live key got %d %s", status, body)
			}
			return status == http.StatusOK
		})
		if n := minted.Load() - before; n > 10 {
			t.Errorf("%d keys were minted before it, which came after it", n)
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d were minted meanwhile, %d refused", minted.Load(), refused.Load())
}
