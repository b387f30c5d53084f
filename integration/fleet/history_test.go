package fleet_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// TestHistoryOfAnOldPrimary promotes a standby while the old primary runs on, with
// every connection that leads there. It can commit nothing, is no standby, and has
// the rows of keys that are revoked on the new one.
func TestHistoryOfAnOldPrimary(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// old says that for a while new connections lead to the old primary too, in turn.
		old bool
	}{
		"new connections lead to the new primary": {false},
		"new connections lead to either":          {true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := emptyFleet(t, 10*time.Second, "")
			standby := testenv.StartStandby(t, f.postgres)
			f.postgres.Synchronous()
			address := testenv.NewSwitch(t, f.postgres.Addr())
			f.pooler = address.Addr()
			for range 3 {
				f.start()
			}
			loads := make(map[string]*load)
			for _, by := range []string{"another process", "the command", "REST"} {
				key, plain := f.mint(by)
				loads[by] = hammer(t, key, plain, f.instances...)
			}
			_, alive := f.mint("stays")
			standby.Promote()
			promoted := time.Now()
			if c.old {
				address.To(standby.Addr(), f.postgres.Addr())
			} else {
				address.To(standby.Addr())
			}
			revoke := f.promoted(standby)

			answers := map[string]time.Time{"another process": revoke(loads["another process"].key)}
			if c.old {
				settle()
				address.To(standby.Addr()) // where the rest could only be done by luck
			}
			_, errs, err := f.command("revoke", loads["the command"].key.ID.String(), "--yes")
			answers["the command"] = time.Now()
			if err != nil {
				t.Errorf("%v: %s", err, errs)
			}
			t.Log(strings.TrimSpace(errs))
			eventually(t, "a server revokes", func() bool {
				status, body, took := f.instances[0].revoke(loads["REST"].key)
				answers["REST"] = time.Now()
				if status == http.StatusOK {
					t.Logf("answered after %v: %s", took.Round(time.Millisecond), body[:min(len(body), 220)])
				}
				return status == http.StatusOK || status == http.StatusNotFound
			})
			for _, i := range f.instances {
				eventually(t, i.name+" lets a live key through", func() bool {
					status, _ := i.get("/ok", alive)
					return status == http.StatusOK
				})
				eventually(t, i.name+" lists the keys", func() bool {
					status, body := i.get("/v1/admin/system-keys", f.adminKey)
					return status == http.StatusOK && !strings.Contains(body, `"REST"`)
				})
			}
			t.Logf("all serve again %v after the promotion", time.Since(promoted).Round(time.Millisecond))
			time.Sleep(2 * time.Second)
			for by, l := range loads {
				l.stop()
				sent, let := l.after(answers[by])
				t.Logf("revoked by %s: %d requests were sent after the answer, %d of them let in", by, sent, let)
				if let > 0 || sent < 100 {
					t.Errorf("revoked by %s: %s", by, l.summary())
				}
			}
		})
	}
}

// promoted has the test's own process go on with the new primary. It returns what
// revokes there, and waits for all servers.
func (f *fleet) promoted(standby *testenv.Postgres) (revoke func(key *store.Key) (answered time.Time)) {
	f.tb.Helper()
	dsn, err := url.Parse(f.dsn)
	if err != nil {
		f.tb.Fatal(err)
	}
	dsn.Host = standby.Addr()
	f.dsn = dsn.String()
	s, err := postgres.Open(f.tb.Context(), f.dsn, postgres.Options{})
	if err != nil {
		f.tb.Fatal(err)
	}
	f.tb.Cleanup(func() { _ = s.Close() })
	f.store = s
	service := *f.admin
	service.Store, service.Revoker = s, coherence.NewRevoker(s, time.Now, slog.New(slog.DiscardHandler))
	f.admin = &service
	return func(key *store.Key) time.Time {
		f.tb.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		revocation, err := service.Revoke(ctx, admin.CLI(), key.ID)
		if err != nil {
			f.tb.Fatal(err)
		}
		revoked, err := revocation.Wait(ctx, nil)
		if err != nil {
			f.tb.Fatal(err)
		}
		f.tb.Logf("%d of %d acknowledged", revoked.Report.Acknowledged, revoked.Report.Total)
		return time.Now()
	}
}
