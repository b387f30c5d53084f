package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// TestHighAvailability has Patroni move the primary under load: keys are used at every
// server, and revoked and used again without a pause. With SOAK=1 there are more rounds
// and faults, and asynchronous replication.
func TestHighAvailability(t *testing.T) { //nolint:tparallel // one cluster at a time
	t.Parallel()
	t.Run("synchronous", func(t *testing.T) {
		f := newPatroniFleet(t, true)
		for round := range rounds() {
			f.disturb(t, round, "switchover", f.patroni.Switchover)
			f.disturb(t, round, "kill -9 of the primary", f.killPrimary)
			if soak() {
				f.partEtcd(t, round)
				// Its PostgreSQL stays a primary that nobody looks after, and clients stay
				// connected. It can commit nothing without its standby.
				f.disturb(t, round, "kill -9 of the primary's Patroni alone", func() {
					old := f.patroni.Settled()
					old.KillPatroni()
					f.patroni.PromotedAfter(old)
					time.Sleep(10 * time.Second)
					old.KillPostgres() // which somebody has to do: fence it
					old.Start()
				})
			}
		}
	})
	if !soak() {
		return
	}
	t.Run("asynchronous", func(t *testing.T) {
		f := newPatroniFleet(t, false)
		f.loseRevocation(t)
		for round := range rounds() {
			f.disturb(t, round, "switchover", f.patroni.Switchover)
			f.partEtcd(t, round)
		}
	})
}

func (f *fleet) partEtcd(t *testing.T, round int) {
	t.Helper()
	f.disturb(t, round, "kill -9 of PostgreSQL alone", func() {
		old := f.patroni.Settled()
		old.KillPostgres()
		f.patroni.PromotedAfter(old)
	})
	f.disturb(t, round, "the primary is parted from etcd", func() {
		old := f.patroni.Settled()
		old.Etcd.BlackHole()
		f.patroni.PromotedAfter(old)
		time.Sleep(3 * time.Second)
		old.Etcd.Heal()
	})
	f.disturb(t, round, "the standby is parted from etcd", func() {
		cut := f.patroni.Other(f.patroni.Settled())
		cut.Etcd.BlackHole()
		time.Sleep(10 * time.Second)
		cut.Etcd.Heal()
	})
}

// loseRevocation has a primary fail before its standby has heard of a revocation that
// was answered. The key is back then, which nothing above PostgreSQL can repair; that
// it may be is said.
func (f *fleet) loseRevocation(t *testing.T) {
	t.Helper()
	key, plain := f.mintSoon("revoked in vain")
	old := f.patroni.Settled()
	standby := f.patroni.Other(old).DSN("postgres")
	eventually(t, "the standby has the key", func() bool {
		out, err := exec.CommandContext(t.Context(), "psql", "-qAtX", "-c", "SELECT 1 FROM system_keys WHERE id = '"+key.ID.String()+"'", standby).Output()
		return err == nil && strings.TrimSpace(string(out)) == "1"
	})
	for _, i := range f.instances {
		eventually(t, i.name+" serves", func() bool { status, _ := i.get("/ok", plain); return status == http.StatusOK })
	}
	began := time.Now()
	old.Replication.BlackHole()
	answered := revokeEventually(t, f.instances[0], key)
	for _, i := range f.instances {
		if status, _ := i.get("/ok", plain); status != http.StatusUnauthorized {
			t.Errorf("%s says %d after the answer", i.name, status)
		}
	}
	old.Kill()
	f.patroni.PromotedAfter(old)
	old.Replication.Heal()
	for _, i := range f.instances {
		eventually(t, i.name+" has the key back", func() bool { status, _ := i.get("/ok", plain); return status == http.StatusOK })
		log, err := os.ReadFile(i.log)
		if err != nil {
			t.Fatal(err)
		}
		said := lostSince.FindSubmatch(log)
		if said == nil {
			t.Errorf("%s does not say that revocations may be lost", i.name)
			continue
		}
		t.Logf("%s: %s", i.name, said[0])
		if since, err := time.Parse(time.RFC3339, string(said[1])); err != nil || since.After(answered) || began.Sub(since) > time.Minute {
			t.Errorf("%s says since %s: a revocation was answered at %v and is lost", i.name, said[1], answered)
		}
	}
	old.Start()
	f.patroni.Settled()
	l := hammer(t, key, plain, f.instances...)
	answered = revokeEventually(t, f.instances[1], key)
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
}

var lostSince = regexp.MustCompile(`the database has another history than before: .*"since":"([^"]*)"`)

func (f *fleet) killPrimary() {
	old := f.patroni.Settled()
	old.Kill()
	f.patroni.PromotedAfter(old)
	time.Sleep(time.Second)
	old.Start()
}

func soak() bool { return os.Getenv("SOAK") == "1" }

func rounds() int {
	if soak() {
		return 3
	}
	return 1
}

// newPatroniFleet is three servers on two nodes of Patroni.
func newPatroniFleet(t *testing.T, synchronous bool) *fleet {
	t.Helper()
	f := &fleet{tb: t, patroni: testenv.StartPatroni(t, synchronous), lease: 5 * time.Second, upstream: newUpstream(t)}
	f.dsn = f.patroni.DSN("postgres")
	s, err := postgres.Open(t.Context(), f.dsn, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.use(s)
	for range 3 {
		f.start()
	}
	return f
}

// disturb does something under load, waits until all is well again, and says what
// clients had of it.
func (f *fleet) disturb(t *testing.T, round int, name string, fault func()) {
	t.Helper()
	c := newChurn(t, f)
	c.well(t)
	began := time.Now()
	fault()
	f.patroni.Settled()
	took := time.Since(began)
	c.well(t)
	c.stop()
	t.Logf("round %d, %s, %v until both nodes were well: %s", round+1, name, took.Round(100*time.Millisecond), c.summary(began))
	if n := c.violations.Load(); n > 0 {
		t.Errorf("%s: %d requests were let in after the answer to the revocation", name, n)
	}
	if c.sent.Load() == 0 || c.answers.count() == 0 {
		t.Errorf("%s: nothing was tried", name)
	}
}

// churn is clients that mint keys, use them everywhere, revoke them and use them again.
type churn struct {
	fleet  *fleet
	ended  sync.WaitGroup
	halted atomic.Bool

	good    string // a key that is never revoked
	mu      sync.Mutex
	current []*churned

	sent, violations, refused, failed atomic.Int64
	answers                           timeline                // of revocations
	served                            map[*instance]*timeline // of the good key
}

// churned is a key that will be revoked, or was.
type churned struct {
	plain    string
	answered atomic.Bool
}

// remembered is how many keys are used at a time, most of them revoked.
const remembered = 40

func newChurn(t *testing.T, f *fleet) *churn {
	t.Helper()
	c := &churn{fleet: f, served: make(map[*instance]*timeline)}
	_, c.good = f.mintSoon("good")
	for _, i := range f.instances {
		c.served[i] = new(timeline)
	}
	for _, i := range f.instances {
		for range 2 {
			c.ended.Go(func() { c.use(i) })
		}
	}
	for range 2 {
		c.ended.Go(c.revoke)
	}
	t.Cleanup(c.stop)
	return c
}

func (c *churn) stop() {
	c.halted.Store(true)
	c.ended.Wait()
}

// mintSoon mints a key when the database takes it.
func (f *fleet) mintSoon(label string) (key *store.Key, plain string) {
	f.tb.Helper()
	eventually(f.tb, "a key is minted", func() (minted bool) {
		key, plain, minted = f.tryMint(label)
		return minted
	})
	return key, plain
}

func (f *fleet) tryMint(label string) (*store.Key, string, bool) {
	// Like a command, for once: a store that nobody follows stays with the server of
	// its first commit.
	s, err := postgres.Open(f.tb.Context(), f.dsn, postgres.Options{})
	if err != nil {
		return nil, "", false
	}
	defer func() { _ = s.Close() }()
	service := *f.admin
	service.Store = s
	key, plain, err := service.Create(f.tb.Context(), admin.CLI(), admin.NewKey{Label: label})
	return key, plain, err == nil
}

// use sends requests to a server, with the good key and with those that come and go.
func (c *churn) use(i *instance) {
	for n := 0; !c.halted.Load(); n++ {
		if n%4 == 0 {
			if status, _ := i.get("/ok", c.good); status == http.StatusOK {
				c.served[i].note()
			} else {
				c.refused.Add(1)
			}
			continue
		}
		key := c.pick()
		if key == nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		after := key.answered.Load() // before it is sent
		status, _ := i.get("/ok", key.plain)
		if after {
			c.sent.Add(1)
			if status == http.StatusOK {
				c.violations.Add(1)
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *churn) pick() *churned {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.current) == 0 {
		return nil
	}
	return c.current[rand.IntN(len(c.current))]
}

// revoke mints, has the key used for a moment, and revokes it at any server until that
// is answered.
func (c *churn) revoke() {
	for !c.halted.Load() {
		key, plain, ok := c.fleet.tryMint("bot")
		if !ok {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		mine := &churned{plain: plain}
		c.mu.Lock()
		if c.current = append(c.current, mine); len(c.current) > remembered {
			c.current = c.current[1:]
		}
		c.mu.Unlock()
		for _, i := range c.fleet.instances {
			i.get("/ok", plain) // into its memory
		}
		for !c.halted.Load() {
			i := c.fleet.instances[rand.IntN(len(c.fleet.instances))]
			// After an attempt whose outcome was not known it may be gone: 404.
			if status, _, _ := i.revoke(key); status == http.StatusOK || status == http.StatusNotFound {
				mine.answered.Store(true)
				c.answers.note()
				break
			}
			c.failed.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// well waits until every server serves and revocations are answered.
func (c *churn) well(t *testing.T) {
	t.Helper()
	began := time.Now()
	for _, i := range c.fleet.instances {
		eventually(t, i.name+" serves", func() bool { return c.served[i].last().After(began) })
	}
	eventually(t, "revocations are answered", func() bool { return c.answers.last().After(began) })
	settle()
}

func (c *churn) summary(since time.Time) string {
	var gaps []string
	for _, i := range c.fleet.instances {
		gaps = append(gaps, fmt.Sprintf("%.1f", c.served[i].gap(since).Seconds()))
	}
	return fmt.Sprintf("%d requests after an answer, %d of them let in; %d revocations answered, %d attempts failed; "+
		"a good key was not served for %s s (by server), no revocation was answered for %.1f s; %d refusals of the good key",
		c.sent.Load(), c.violations.Load(), c.answers.count(), c.failed.Load(),
		strings.Join(gaps, ", "), c.answers.gap(since).Seconds(), c.refused.Load())
}

// timeline is when something succeeded.
type timeline struct {
	mu    sync.Mutex
	times []time.Time
}

func (l *timeline) note() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, time.Now())
}

func (l *timeline) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

func (l *timeline) last() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.times) == 0 {
		return time.Time{}
	}
	return l.times[len(l.times)-1]
}

// gap is the longest time without success that ended after since.
func (l *timeline) gap(since time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := 1; n < len(l.times); n++ {
		if l.times[n].After(since) {
			longest = max(longest, l.times[n].Sub(l.times[n-1]))
		}
	}
	return longest
}
