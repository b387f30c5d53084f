package fleet_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// TestManyKeysEndAtOnce revokes 150 keys by one call (SOAK=1: 10,000), while clients use
// one of them at three servers, and each was used at each. It prints how long that took,
// how many requests were cut, and how many were let through after the answer.
func TestManyKeysEndAtOnce(t *testing.T) {
	t.Parallel()
	count := 150
	if soak() {
		count = 10_000
	}
	f := newFleet(t, 3, 10*time.Second, "")
	_, kept := f.mint("kept")
	keys := f.mintMany("ended", count)
	if got := f.uses(keys); got[http.StatusOK] != 3*count {
		t.Fatalf("before, the servers answer %v", got)
	}
	if soak() { // which measures: the last uses of all keys are written first
		time.Sleep(12 * time.Second)
	}
	var streams []*stream
	for n := range 30 {
		streams = append(streams, openEvents(t, f.instances[n%3], keys[n]))
	}
	load := hammer(t, nil, keys[count-1], f.instances...)

	began := time.Now()
	response, err := f.instances[0].do(t.Context(), http.MethodDelete, "/v1/admin/system-keys?label_prefix=ended", f.adminKey)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Data struct {
			Total     int
			Cut       int `json:"requests_cut"`
			Instances struct{ Total, Acknowledged, Expired int }
		}
	}
	answered := time.Now()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}

	after := f.uses(keys)
	load.stop()
	load.wantNoneAfter(t, answered)
	t.Logf("\nkeys   answered in  requests cut  let through after\n%-6d %-12v %-13d %d",
		count, answered.Sub(began).Round(time.Millisecond), answer.Data.Cut, after[http.StatusOK])
	if d := answer.Data; response.StatusCode != http.StatusOK || d.Total != count || d.Instances.Total != 3 || d.Instances.Acknowledged != 3 || d.Cut < len(streams) {
		t.Errorf("the answer is %d %+v", response.StatusCode, d)
	}
	if after[http.StatusUnauthorized] != 3*count {
		t.Errorf("after, the servers answer %v", after)
	}
	for _, s := range streams {
		select {
		case <-s.ended:
		case <-time.After(20 * time.Second):
			t.Errorf("the %s at %s goes on", s.name, s.server.name)
		}
	}
	if got := f.uses([]string{kept, f.adminKey}); got[http.StatusOK] != 6 {
		t.Errorf("the keys that were kept get %v", got)
	}
}

// mintMany mints keys whose labels begin with the prefix.
func (f *fleet) mintMany(prefix string, count int) []string {
	f.tb.Helper()
	keys := make([]string, count)
	var group errgroup.Group
	group.SetLimit(8)
	for n := range keys {
		group.Go(func() (err error) {
			_, keys[n], err = f.admin.Create(f.tb.Context(), admin.CLI(), admin.NewKey{Label: fmt.Sprintf("%s %d", prefix, n)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		f.tb.Fatal(err)
	}
	return keys
}

// uses sends each key to each server, again after a 503, and counts the last statuses.
func (f *fleet) uses(keys []string) map[int]int {
	var mu sync.Mutex
	statuses := make(map[int]int)
	var group errgroup.Group
	group.SetLimit(24)
	for _, key := range keys {
		for _, i := range f.instances {
			group.Go(func() error {
				status, _ := i.get("/ok", key)
				for began := time.Now(); status == http.StatusServiceUnavailable && time.Since(began) < time.Minute; {
					time.Sleep(100 * time.Millisecond)
					status, _ = i.get("/ok", key)
				}
				mu.Lock()
				defer mu.Unlock()
				statuses[status]++
				return nil
			})
		}
	}
	_ = group.Wait()
	return statuses
}
