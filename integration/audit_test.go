package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// flood is many requests with one key, by clients that keep their connections.
type flood struct {
	made, refused atomic.Int64
	slowest       atomic.Int64 // nanoseconds
	wg            sync.WaitGroup
}

// begin starts clients that go on while more says so.
func (f *flood) begin(tb testing.TB, url, key string, more func() bool) {
	tb.Helper()
	for range 8 {
		f.wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for more() {
				request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, http.NoBody)
				if err != nil {
					tb.Error(err)
					return
				}
				request.Header.Set("Authorization", "Bearer "+key)
				began := time.Now()
				response, err := client.Do(request)
				if err != nil {
					tb.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				f.made.Add(1)
				if response.StatusCode != http.StatusOK {
					f.refused.Add(1)
				}
				took := int64(time.Since(began))
				for slowest := f.slowest.Load(); took > slowest && !f.slowest.CompareAndSwap(slowest, took); slowest = f.slowest.Load() {
				}
			}
		})
	}
}

// countRecords reads the whole log and returns the records of use of a key, and
// how many are said to be missing.
func countRecords(tb testing.TB, s store.Store, key store.ID) (used, dropped int64) {
	tb.Helper()
	for query := (store.AuditQuery{Limit: store.MaxAuditLimit}); ; {
		page, err := s.Audit(tb.Context(), &query)
		if err != nil {
			tb.Fatal(err)
		}
		for _, r := range page.Records {
			switch {
			case r.Event == store.AuditUsed && r.Key.ID == key:
				used++
			case r.Event == store.AuditGap:
				var details struct{ Dropped int64 }
				if err := json.Unmarshal(r.Details, &details); err != nil {
					tb.Fatal(err)
				}
				dropped += details.Dropped
			}
		}
		if query.Before = page.Next; page.Next == (store.ID{}) {
			return used, dropped
		}
	}
}

// TestNoAuditedRequestIsLostAtShutdown makes a hundred thousand requests (SOAK=1;
// otherwise 2,500, which are more than a batch) and stops the server at once.
func TestNoAuditedRequestIsLostAtShutdown(t *testing.T) {
	want := int64(2_500)
	if soak() {
		want = 100_000
	}
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			key, plain := mint(t, keys, "busy")
			b.options += "\naudit_requests all"
			url := "http://" + run(t, b, "system_key_auth\nrespond ok") + "/work"
			var asked atomic.Int64
			var f flood
			began := time.Now()
			f.begin(t, url, plain, func() bool { return asked.Add(1) <= want })
			f.wg.Wait()
			took := time.Since(began)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			used, dropped := countRecords(t, keys.Store, key.ID)
			t.Logf("%d requests in %v, %d recorded, %d dropped", f.made.Load(), took, used, dropped)
			if used != want || dropped != 0 || f.refused.Load() != 0 {
				t.Errorf("%d of %d requests are recorded, %d were dropped, %d refused", used, want, dropped, f.refused.Load())
			}
			report, err := audit.Verify(t.Context(), keys.Store, secretsOf(b))
			if err != nil || !report.OK(len(secretsOf(b)) > 0) {
				t.Errorf("the log does not verify: %+v, %v", report, err)
			}
		})
	}
}

// secretsOf are those of a backend's configuration.
func secretsOf(b *backend) [][]byte {
	if b.name == "sqlite" {
		return nil
	}
	return [][]byte{[]byte("0123456789abcdef0123456789abcdef")}
}

// TestADatabaseThatIsDownHoldsUpNoRequest stops it for three seconds while
// requests are recorded. What is not recorded is counted, and that is recorded.
func TestADatabaseThatIsDownHoldsUpNoRequest(t *testing.T) {
	b, server := onPrivatePostgres(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "busy")
	b.options += "\naudit_requests all\nlease 30s"
	url := "http://" + run(t, b, "system_key_auth\nrespond ok") + "/work"
	var over atomic.Bool
	var f flood
	f.begin(t, url, plain, func() bool { return !over.Load() })
	eventually(t, "requests are made", func() bool { return f.made.Load() > 100 })
	server.Stop()
	before := heap()
	down := f.made.Load()
	time.Sleep(3 * time.Second)
	during := f.made.Load() - down
	grown := heap() - before
	server.Start()
	back := time.Now()
	eventually(t, "requests are recorded again", func() bool {
		page, err := keys.Store.Audit(t.Context(), &store.AuditQuery{Limit: 1, Event: store.AuditUsed})
		return err == nil && len(page.Records) > 0 && page.Records[0].At.After(back)
	})
	over.Store(true)
	f.wg.Wait()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	used, dropped := countRecords(t, keys.Store, key.ID)
	slowest := time.Duration(f.slowest.Load())
	t.Logf("%d requests, %d of them while the database was down; %d recorded, %d dropped and counted; slowest %v; heap grew by %.1f MB",
		f.made.Load(), during, used, dropped, slowest, float64(grown)/1e6)
	if used+dropped != f.made.Load() || f.refused.Load() != 0 {
		t.Errorf("%d requests, %d recorded, %d counted as dropped, %d refused", f.made.Load(), used, dropped, f.refused.Load())
	}
	if during < 100 || slowest > 3*time.Second {
		t.Errorf("%d requests in 3 s without the database, the slowest in %v", during, slowest)
	}
	if grown > 64<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestWhichRequestsAreRecorded has requests of several kinds made, under each
// setting.
func TestWhichRequestsAreRecorded(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	for setting, want := range map[string]int64{"all": 5, "writes": 3, "none": 0, "": 3} {
		t.Run("audit_requests "+setting, func(t *testing.T) {
			options := b.options
			if setting != "" {
				options += "\naudit_requests " + setting
			}
			here := *b
			here.options = options
			key, plain := mint(t, keys, "bot "+setting)
			url := "http://" + run(t, &here, "handle /redirect/* {\nsystem_key_auth\nredir * /x 302\n}\nsystem_key_auth\nrespond ok")
			for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
				do(t, method, url+"/a?b=c", "Bearer "+plain, nil)
			}
			do(t, "PUT", url+"/redirect/lm_sys_"+plain[7:], "Bearer "+plain, nil)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			if used, _ := countRecords(t, keys.Store, key.ID); used != want {
				t.Errorf("%d requests are recorded, want %d", used, want)
			}
			if want == 0 {
				return
			}
			page, err := keys.AuditLog(t.Context(), admin.CLI(), &store.AuditQuery{Limit: 1, Key: key.ID, Event: store.AuditUsed})
			if err != nil {
				t.Fatal(err)
			}
			r := page.Records[0]
			if got := fmt.Sprintf("%s %s %d %s %s", r.Request.Method, r.Request.Path, r.Request.Status, r.Key.Label, r.Actor.Type); got != "PUT /redirect/REDACTED 302 "+key.Label+" system_key" {
				t.Errorf("recorded %s", got)
			}
		})
	}
}
