package fleet_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lease of the fleets whose tests wait for it to run out.
const shortLease = 2 * time.Second

// promptly is how much later than in theory something may show, on a machine that
// runs browsers and other fleets at the same time.
const promptly = 3 * time.Second

// mustRevoke revokes at a server, and returns when it was answered.
func mustRevoke(tb testing.TB, i *instance, key *store.Key) (answered time.Time, took time.Duration, body string) {
	tb.Helper()
	status, body, took := i.revoke(key)
	answered = time.Now()
	if status != http.StatusOK {
		tb.Fatalf("%s answered %d after %v: %s", i.name, status, took, body)
	}
	tb.Logf("answered after %v: %s", took.Round(time.Millisecond), body[:min(len(body), 220)])
	return answered, took, body
}

// settle lets clients find out for a while.
func settle() { time.Sleep(300 * time.Millisecond) }

// Case 1 of the protocol's test plan.
func TestRevokedUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 10*time.Second, "")
	for range 10 {
		key, plain := f.mint("bot")
		l := hammer(t, key, plain, f.instances...)
		answered, took, body := mustRevoke(t, f.instances[0], key)
		settle()
		l.stop()
		l.wantNoneAfter(t, answered)
		if took > promptly || !strings.Contains(body, `"acknowledged":3`) {
			t.Errorf("answered after %v: %s", took, body)
		}
		for _, i := range f.instances {
			if l.count(i, http.StatusUnauthorized) == 0 {
				t.Errorf("%s has refused nothing: %s", i.name, l.summary())
			}
		}
	}
}

// Case 6: a process that is stopped for longer than its lease.
func TestStoppedForLongerThanItsLease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, shortLease, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	stream := openEvents(t, f.instances[1], plain)
	f.instances[1].signal(syscall.SIGSTOP)
	stopped := time.Now()
	answered, took, body := mustRevoke(t, f.instances[0], key)
	if took < shortLease*8/10 || took > shortLease+promptly || !strings.Contains(body, `"expired":1`) {
		t.Errorf("answered after %v: %s", took, body)
	}
	time.Sleep(time.Until(stopped.Add(shortLease + 500*time.Millisecond)))
	f.instances[1].signal(syscall.SIGCONT)
	resumed := time.Now()
	time.Sleep(2 * time.Second)
	l.stop()
	l.wantNoneAfter(t, answered)
	stream.wantEnd(t, resumed, promptly)
	if status, _ := f.instances[1].get("/ok", plain); status != http.StatusUnauthorized {
		t.Errorf("the process that was stopped says %d", status)
	}
}

// Case 7: a process that is stopped for less than its lease.
func TestStoppedForLessThanItsLease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 20*time.Second, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	f.instances[1].signal(syscall.SIGSTOP)
	time.AfterFunc(time.Second, func() { f.instances[1].signal(syscall.SIGCONT) })
	answered, took, body := mustRevoke(t, f.instances[0], key)
	if took < 900*time.Millisecond || took > 10*time.Second || !strings.Contains(body, `"acknowledged":2`) {
		t.Errorf("answered after %v: %s", took, body)
	}
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
}

// Case 8: a process that is killed is waited for once.
func TestKilledIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, shortLease, "")
	first, plain := f.mint("bot")
	second, secondPlain := f.mint("bot")
	l := hammer(t, first, plain, f.instances[0])
	f.instances[1].signal(syscall.SIGKILL)
	answered, took, body := mustRevoke(t, f.instances[0], first)
	if took > shortLease+promptly || !strings.Contains(body, `"expired":1`) {
		t.Errorf("answered after %v: %s", took, body)
	}
	l.wantNoneAfter(t, answered)
	eventually(t, "the dead member is removed", func() bool { return f.members() == 1 })
	if status, _ := f.instances[0].get("/ok", secondPlain); status != http.StatusOK {
		t.Errorf("the other key got %d", status)
	}
	if _, took, body := mustRevoke(t, f.instances[0], second); took > shortLease/2 || !strings.Contains(body, `"expired":0`) {
		t.Errorf("the next one is answered after %v: %s", took, body)
	}
}

func (f *fleet) members() int {
	f.tb.Helper()
	progress, err := f.store.Progress(f.tb.Context(), nil, nil)
	if err != nil {
		f.tb.Fatal(err)
	}
	return len(progress.Members)
}

// Cases 9 and 10: a server's way to the database loses everything, on connections
// that stay open.
func TestPartitionedServesUntilItsLeaseEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, shortLease, "")
	cut := f.instances[1]
	key, plain := f.mint("bot")
	kept, keptPlain := f.mint("another bot")
	l, other := hammer(t, key, plain, f.instances...), hammer(t, kept, keptPlain, cut)
	stream := openEvents(t, cut, plain)
	cut.link.BlackHole()
	began := time.Now()
	answered, took, body := mustRevoke(t, f.instances[0], key)
	if took < shortLease*8/10 || took > shortLease+promptly || !strings.Contains(body, `"expired":1`) {
		t.Errorf("answered after %v: %s", took, body)
	}
	stream.wantEnd(t, began, shortLease+promptly)
	eventually(t, "keys are unavailable there", func() bool { return other.count(cut, http.StatusServiceUnavailable) > 0 })
	if served := other.last(cut).Sub(began); served > shortLease || served < shortLease/2 {
		t.Errorf("keys were served for %v without the database", served)
	}
	settle()
	l.wantNoneAfter(t, answered)
	cut.link.Heal()
	eventually(t, "the other key is served again", func() bool { return time.Since(other.last(cut)) < time.Second })
	l.wantRefused(t, 0)
	l.stop()
	other.stop()
	l.wantNoneAfter(t, answered)
	if n := other.count(cut, http.StatusUnauthorized); n > 0 {
		t.Errorf("a good key was called bad %d times: %s", n, other.summary())
	}
}

// With on_lapse keep, requests in flight outlive the lease, and are cut by the
// revocation when it can be heard of again.
func TestRequestsInFlightCanOutliveTheLease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, shortLease, "on_lapse keep")
	cut := f.instances[1]
	key, plain := f.mint("bot")
	stream := openEvents(t, cut, plain)
	cut.link.BlackHole()
	eventually(t, "new requests are refused", func() bool {
		status, _ := cut.get("/ok", plain)
		return status == http.StatusServiceUnavailable
	})
	mustRevoke(t, f.instances[0], key)
	select {
	case e := <-stream.ended:
		t.Fatalf("the stream ended with the lease: %v", e.err)
	case <-time.After(time.Second):
	}
	healed := time.Now()
	cut.link.Heal()
	stream.wantEnd(t, healed, 5*time.Second)
}

// Case 11: the database restarts without warning, under load.
func TestDatabaseRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 10*time.Second, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	f.postgres.Kill()
	settle()
	f.postgres.Start()
	_, fresh := f.mintEventually("another bot")
	for _, i := range f.instances {
		eventually(t, "a key that nobody has remembered is served again", func() bool {
			status, _ := i.get("/ok", fresh)
			return status == http.StatusOK
		})
		if n := l.count(i, http.StatusUnauthorized); n > 0 {
			t.Errorf("%s: a restart is told as a bad key, %d times", i.name, n)
		}
	}
	answered, _, body := mustRevoke(t, f.instances[0], key)
	if !strings.Contains(body, `"acknowledged":2`) {
		t.Errorf("after a restart: %s", body)
	}
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
}

func (f *fleet) mintEventually(label string) (key *store.Key, plain string) {
	f.tb.Helper()
	eventually(f.tb, "the database is back", func() bool {
		_, err := f.store.Progress(f.tb.Context(), nil, nil)
		return err == nil
	})
	return f.mint(label)
}

// Case 12: the database is away for longer than a lease.
func TestDatabaseDownForLongerThanALease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, shortLease, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	f.postgres.Kill()
	for _, i := range f.instances {
		eventually(t, "the key is unavailable", func() bool { return l.count(i, http.StatusServiceUnavailable) > 0 })
		response, err := i.do(t.Context(), http.MethodGet, "/ok", plain)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", i.name, response.StatusCode, response.Header)
		}
	}
	if status, body, _ := f.instances[0].revoke(key); status != http.StatusServiceUnavailable {
		t.Errorf("a revocation without a database got %d %s", status, body)
	}
	f.postgres.Start()
	for _, i := range f.instances {
		eventually(t, "the key is served again", func() bool { return time.Since(l.last(i)) < 100*time.Millisecond })
		if n := l.count(i, http.StatusUnauthorized); n > 0 {
			t.Errorf("%s: an outage is told as a bad key, %d times", i.name, n)
		}
	}
}

// Case 32: servers come and go while keys are revoked.
func TestServersComeAndGoDuringRevocations(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 10*time.Second, "")
	type revoked struct {
		load     *load
		answered time.Time
	}
	var all []revoked
	for n := range 6 {
		key, plain := f.mint("bot")
		first, last := f.instances[0], f.instances[len(f.instances)-1]
		l := hammer(t, key, plain, first, last)
		answered := make(chan time.Time)
		go func() {
			if status, body, took := first.revoke(key); status != http.StatusOK {
				t.Errorf("%d after %v: %s", status, took, body)
			}
			answered <- time.Now()
		}()
		switch n % 3 {
		case 0:
			last.signal(syscall.SIGTERM)
			f.instances = f.instances[:len(f.instances)-1]
		case 1:
			f.start()
		}
		all = append(all, revoked{l, <-answered})
		eventually(t, "the members are the servers", func() bool { return f.members() == len(f.instances) })
	}
	settle()
	for _, r := range all {
		r.load.stop()
		r.load.wantNoneAfter(t, r.answered)
	}
}

// Case 13: whatever becomes of Redis, no verdict and no revocation changes.
func TestRevocationNeedsNoRedis(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	f := newFleet(t, 2, 10*time.Second, "redis "+redis.URL()+"\n\t\tsecret 0123456789abcdef0123456789abcdef")
	for _, fault := range []struct {
		name   string
		do     func()
		repair func()
	}{
		{"sound", func() {}, func() {}},
		{"flushed", redis.FlushAll, func() {}},
		{"stopped", redis.Pause, redis.Resume},
		{"killed", redis.Kill, redis.Start},
	} {
		key, plain := f.mint(fault.name)
		l := hammer(t, key, plain, f.instances...)
		fault.do()
		settle()
		for _, i := range f.instances {
			if n := l.count(i, http.StatusUnauthorized); n > 0 {
				t.Errorf("%s: %s called a good key bad %d times", fault.name, i.name, n)
			}
		}
		answered, took, body := mustRevoke(t, f.instances[0], key)
		if took > promptly || !strings.Contains(body, `"acknowledged":2`) {
			t.Errorf("%s: answered after %v: %s", fault.name, took, body)
		}
		settle()
		fault.repair()
		settle()
		l.stop()
		l.wantNoneAfter(t, answered)
	}
}

// Case 24: a backup is restored. Revisions are given out again, to other changes,
// and a key comes back. The next revocation of it has to hold.
func TestBackupIsRestored(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, shortLease, "")
	key, plain := f.mint("bot")
	other, otherPlain := f.mint("another bot")
	l, stays := hammer(t, key, plain, f.instances...), hammer(t, other, otherPlain, f.instances...)
	data, saved := filepath.Join(f.postgres.Folder(), "data"), filepath.Join(t.TempDir(), "saved")
	f.postgres.Stop()
	mustRun(t, "cp", "-a", data, saved)
	f.postgres.Start()
	f.mintEventually("a sign of life")
	answered := revokeEventually(t, f.instances[0], key)
	l.wantRefused(t, promptly)
	l.stop()
	l.wantNoneAfter(t, answered)

	f.postgres.Stop()
	mustRun(t, "rm", "-rf", data)
	mustRun(t, "cp", "-a", saved, data)
	f.postgres.Start()
	// The same revision as the first revocation had, for another key.
	f.mustPSQLEventually("DELETE FROM system_keys WHERE id = '" + other.ID.String() + "'")
	stays.wantRefused(t, promptly)
	stays.stop()
	for _, i := range f.instances {
		eventually(t, "the key is back", func() bool {
			status, _ := i.get("/ok", plain)
			return status == http.StatusOK
		})
	}
	again := hammer(t, key, plain, f.instances...)
	answered = revokeEventually(t, f.instances[1], key)
	settle()
	again.stop()
	again.wantNoneAfter(t, answered)
}

// revokeEventually asks until there is an answer. An attempt whose outcome was not
// known may have deleted the key.
func revokeEventually(tb testing.TB, i *instance, key *store.Key) (answered time.Time) {
	tb.Helper()
	eventually(tb, "the key is revoked", func() bool {
		status, body, took := i.revoke(key)
		answered = time.Now()
		tb.Logf("%s answered %d after %v: %s", i.name, status, took.Round(time.Millisecond), body[:min(len(body), 220)])
		return status == http.StatusOK || status == http.StatusNotFound
	})
	return answered
}

func mustRun(tb testing.TB, name string, arguments ...string) {
	tb.Helper()
	if out, err := exec.CommandContext(tb.Context(), name, arguments...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v: %s", name, err, out)
	}
}

func (f *fleet) mustPSQLEventually(statements string) {
	f.tb.Helper()
	eventually(f.tb, "the database takes "+statements, func() bool {
		_, err := f.psqlEach(statements)
		return err == nil
	})
}
