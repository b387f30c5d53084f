package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// otherService is a program in another language that has keys in a table of its own. It is not
// changed for the move, and knows nothing of it.
type otherService struct {
	tb  testing.TB
	in  io.WriteCloser
	out *bufio.Scanner
	mu  sync.Mutex
}

// startService runs testdata/service. What it needs from npm is pinned by its lock file, and
// is kept in the user's cache.
func startService(t *testing.T, dsn string) *otherService {
	t.Helper()
	folder := testenv.NodePackages(t, filepath.Join("testdata", "service"), "service")
	text, err := os.ReadFile(filepath.Join("testdata", "service", "service.mjs"))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "service.mjs"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(folder, "service.mjs"))
	cmd.Env, cmd.Stderr = append(os.Environ(), "SERVICE_DSN="+dsn), os.Stderr
	s := &otherService{tb: t}
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.in.Close()
		_ = cmd.Wait()
	})
	return s
}

// call runs a command of the service, which must work. It may be called by a goroutine.
func (s *otherService) call(name string, values map[string]any, answer any) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	command := map[string]any{"name": name}
	maps.Copy(command, values)
	line, err := json.Marshal(command)
	if err == nil {
		_, err = s.in.Write(append(line, '\n'))
	}
	if err != nil || !s.out.Scan() {
		s.tb.Errorf("%s: the service is gone: %v", name, err)
		return
	}
	var reply struct {
		Answer json.RawMessage
		Error  string
	}
	if err := json.Unmarshal(s.out.Bytes(), &reply); err != nil || reply.Error != "" {
		s.tb.Errorf("%s: the service failed: %v %s", name, err, reply.Error)
		return
	}
	if answer != nil {
		if err := json.Unmarshal(reply.Answer, answer); err != nil {
			s.tb.Error(err)
		}
	}
}

// client is somebody who holds a key. Good and gone say what it must be answered from then
// on; in between either answer is right.
type client struct {
	id, key    string
	good, gone atomic.Bool
	suspended  *atomic.Bool // nobody says what the key is answered
}

// move is the whole move.
type move struct {
	t       *testing.T
	began   time.Time
	service *otherService
	dsn     string
	url     string
	env     []string
	config  string

	mu        sync.Mutex
	clients   []*client
	suspended atomic.Bool // imported keys
	answers   [3]atomic.Int64
}

// says adds a line to the timeline.
func (m *move) says(format string, args ...any) {
	m.t.Logf("%6.2f s  %s", time.Since(m.began).Seconds(), fmt.Sprintf(format, args...))
}

// issue has the service make a key, as it always does.
func (m *move) issue(label string, permissions ...string) *client {
	c := &client{key: "lm_sys_" + strings.ReplaceAll(label, " ", "-") + "-" + strings.Repeat("x", 20), suspended: &m.suspended}
	m.service.call("create", map[string]any{"label": label, "hash": hashOf(m.t, c.key), "permissions": append([]string{}, permissions...)}, &c.id)
	return c
}

// revoke has the service delete a key, as it always does.
func (m *move) revoke(c *client) {
	c.good.Store(false)
	m.service.call("revoke", map[string]any{"id": c.id}, nil)
}

// barrier waits until no server accepts what was deleted before.
func (m *move) barrier() {
	m.t.Helper()
	m.sql("CALL lumio_keys.barrier()")
}

func (m *move) sql(statement string) {
	m.t.Helper()
	conn, err := pgx.Connect(m.t.Context(), m.dsn)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = conn.Close(m.t.Context()) }()
	if _, err := conn.Exec(m.t.Context(), statement); err != nil {
		m.t.Fatalf("%s: %v", statement, err)
	}
}

// command runs `caddy system-keys …`, which must work.
func (m *move) command(stdin string, args ...string) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), program(m.t), append(append([]string{"system-keys"}, args...), "--config", m.config)...)
	cmd.Env, cmd.Stdin = append(os.Environ(), m.env...), strings.NewReader(stdin)
	output, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(output), "lm_sys_") || strings.Contains(string(output), "$argon2") {
		m.t.Fatalf("%v: %v\n%s", args, err, output)
	}
	m.says("$ caddy system-keys %s", strings.Join(args, " "))
	for line := range strings.Lines(string(output)) {
		if args[0] != "adopt" || strings.Contains(line, "line(s)") { // not each of the keys
			m.says("    %s", strings.TrimSpace(line))
		}
	}
}

// join has clients call from now on. Their keys must be good.
func (m *move) join(clients ...*client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range clients {
		c.good.Store(true)
		m.clients = append(m.clients, c)
	}
}

// load has each client call again and again until the test ends.
func (m *move) load() {
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	var group sync.WaitGroup
	done := make(chan struct{})
	m.t.Cleanup(func() {
		close(done)
		group.Wait()
		transport.CloseIdleConnections()
	})
	for worker := range 4 {
		group.Go(func() {
			for n := worker; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
				m.mu.Lock()
				c := m.clients[n%len(m.clients)]
				m.mu.Unlock()
				m.try(transport, c)
			}
		})
	}
}

// try makes one request, and holds the answer to what is known of the key.
func (m *move) try(transport *http.Transport, c *client) {
	suspended := func() bool { return c.suspended != nil && c.suspended.Load() }
	good, gone, free := c.good.Load(), c.gone.Load(), suspended()
	request, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.url, http.NoBody)
	if err != nil {
		m.t.Error(err)
		return
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	response, err := transport.RoundTrip(request)
	if err != nil {
		if good && c.good.Load() && !free && !suspended() && m.t.Context().Err() == nil {
			m.t.Errorf("the good key %s got no answer: %v", c.id, err)
		}
		return // it was cut
	}
	_ = response.Body.Close()
	switch status := response.StatusCode; status {
	case http.StatusOK:
		m.answers[0].Add(1)
		if gone {
			m.t.Errorf("the revoked key %s was accepted", c.id)
		}
	case http.StatusUnauthorized:
		m.answers[1].Add(1)
		if good && c.good.Load() {
			m.t.Errorf("the good key %s was refused", c.id)
		}
	default:
		m.answers[2].Add(1)
		if good && c.good.Load() && !free && !suspended() {
			m.t.Errorf("the good key %s got %d", c.id, status)
		}
	}
}

// status is what a key is answered now. It is 0 if the request was cut.
func (m *move) status(c *client) (status int, body string) {
	m.t.Helper()
	status, _, body, err := try(m.t, http.MethodGet, m.url, "Bearer "+c.key, nil)
	if err != nil {
		return 0, ""
	}
	return status, body
}

// revoked revokes keys by the service, and checks that they are refused as soon as the
// barrier is passed.
func (m *move) revoked(clients ...*client) {
	m.t.Helper()
	for _, c := range clients {
		began := time.Now()
		m.revoke(c)
		seen := time.Duration(0)
		for status := 0; status != http.StatusUnauthorized && time.Since(began) < 10*time.Second; seen = time.Since(began) {
			status, _ = m.status(c)
		}
		m.barrier()
		c.gone.Store(true)
		if status, _ := m.status(c); status != http.StatusUnauthorized {
			m.t.Errorf("after the barrier the revoked key got %d", status)
		}
		m.says("the service has deleted a row: 401 after %.0f ms", float64(seen.Microseconds())/1000)
	}
}

// TestTheMove plays a whole move: a service with keys of its own, to which nothing is
// changed, a Caddy in front, and clients who call all the time. Run it with -v.
func TestTheMove(t *testing.T) {
	m := &move{t: t, began: time.Now(), dsn: testenv.Database(t)}
	m.service = startService(t, m.dsn)
	m.service.call("install", nil, nil)
	var theirs []*client
	var held strings.Builder
	for n := range 30 {
		c := m.issue(fmt.Sprintf("bot %02d", n), "bots:read")
		theirs = append(theirs, c)
		fmt.Fprintf(&held, "%s\t%s\n", c.id, c.key)
	}
	m.says("a service in Node has %d keys in public.system_keys", len(theirs))

	schema := " {\nschema lumio_keys\n}"
	b := &backend{
		name: "postgres", options: "store postgres " + m.dsn + schema + "\nlease 2s\nlast_used_interval 1s\nsecret 0123456789abcdef0123456789abcdef",
		open: func(tb testing.TB) store.Store {
			tb.Helper()
			s, err := postgres.Open(tb.Context(), m.dsn, postgres.Options{Schema: "lumio_keys"})
			if err != nil {
				tb.Fatal(err)
			}
			return s
		},
	}
	_, own := mint(t, b.keys(t), "minted by Caddy")
	m.config = filepath.Join(t.TempDir(), "Caddyfile")
	m.env = []string{asCaddy + "=1", "SERVICE_DSN=" + m.dsn}
	if err := os.WriteFile(m.config, []byte("{\nsystem_keys {\n"+b.options+"\nadopt_keys on\n}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	site := fmt.Sprintf("http://%s {\nsystem_key_auth\nreverse_proxy %s\n}\n", address, echo(t))
	m.url = "http://" + address
	load(t, globals(b.options+"\n"+cheap+"adopt_keys on")+site)
	m.join(&client{key: own, id: "minted here"})
	m.load()
	m.says("Caddy serves, with a key of its own under load")

	const table = "public.system_keys"
	m.command("", "import", "--from", "{env.SERVICE_DSN}", "--table", table, "--dry-run", "--follow")
	// The service goes on while its table is imported.
	var during sync.WaitGroup
	during.Go(func() {
		for n := range 40 {
			c := m.issue(fmt.Sprintf("short-lived %02d", n))
			m.service.call("use", map[string]any{"id": theirs[n%len(theirs)].id}, nil)
			m.revoke(c)
		}
	})
	m.command("", "import", "--from", "{env.SERVICE_DSN}", "--table", table, "--follow")
	during.Wait()
	m.command(held.String(), "adopt", "--yes")
	m.join(theirs...)
	m.says("all clients call Caddy, with the keys that they had")

	m.revoked(theirs[:5]...)
	fresh := m.issue("made after the import", "bots:read")
	m.command(fresh.id+"\t"+fresh.key+"\n", "adopt", "--yes")
	m.join(fresh)
	m.says("the service has made a key: Caddy takes it")
	m.service.call("permit", map[string]any{"id": fresh.id, "permissions": []string{"bots:write"}}, nil)
	m.barrier()
	if status, body := m.status(fresh); status != http.StatusOK || !strings.Contains(body, "X-Lumio-Permissions: bots:write") {
		t.Errorf("after its permissions were changed the key got %d %s", status, body)
	}
	m.says("the service has changed permissions: the upstream sees it")
	m.waitForLastUse(fresh)
	m.revoked(fresh)

	m.outage(theirs[10:])

	m.command("", "import", "--unfollow")
	m.service.call("revoke", map[string]any{"id": theirs[9].id}, nil)
	m.barrier()
	if status, _ := m.status(theirs[9]); status != http.StatusOK {
		t.Errorf("a key that the service has deleted after the follow got %d", status)
	}
	m.says("the service is not followed any more: a row that it deletes does not matter")
	theirs[9].good.Store(false)
	m.command("", "revoke", theirs[9].id, "--yes")
	theirs[9].gone.Store(true)
	for _, c := range theirs {
		c.good.Store(false)
	}
	load(t, globals(b.options+"\n"+cheap)+site)
	for _, c := range theirs {
		c.gone.Store(true)
	}
	if status, _ := m.status(theirs[20]); status != http.StatusUnauthorized {
		t.Errorf("without adopt_keys an imported key got %d", status)
	}
	if status, _ := m.status(&client{key: own}); status != http.StatusOK {
		t.Errorf("the key of Caddy got %d at the end", status)
	}
	m.says("adopt_keys is off: the move is over. %d requests were accepted, %d refused, %d asked to come back",
		m.answers[0].Load(), m.answers[1].Load(), m.answers[2].Load())
}

// waitForLastUse waits until the service sees that the key was used by way of Caddy.
func (m *move) waitForLastUse(c *client) {
	m.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var rows []struct {
			ID   string     `json:"id"`
			Used *time.Time `json:"last_used_at"`
		}
		m.service.call("list", nil, &rows)
		for _, row := range rows {
			if row.ID == c.id && row.Used != nil {
				m.says("the service sees when the key was used by way of Caddy")
				return
			}
		}
		if time.Since(began) > 30*time.Second {
			m.t.Fatal("the service does not see that the key was used")
		}
	}
}

// outage has somebody disable the triggers, and the service revoke a key meanwhile.
func (m *move) outage(theirs []*client) {
	m.t.Helper()
	m.suspended.Store(true)
	m.sql("ALTER TABLE public.system_keys DISABLE TRIGGER USER")
	m.barrier()
	victim := theirs[0]
	m.revoke(victim)
	status, header, _ := get(m.t, m.url, "Bearer "+theirs[1].key)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		m.t.Errorf("without the triggers an imported key got %d, Retry-After %q", status, header.Get("Retry-After"))
	}
	m.says("somebody has disabled the triggers: imported keys get 503, and keys of Caddy go on")
	m.sql("DO $$ DECLARE t text; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.system_keys'::regclass AND NOT tgisinternal LOOP " +
		"EXECUTE format('ALTER TABLE public.system_keys ENABLE ALWAYS TRIGGER %I', t); END LOOP; END $$")
	m.barrier()
	if status, _ := m.status(victim); status != http.StatusServiceUnavailable {
		m.t.Errorf("the key that was deleted meanwhile got %d after the triggers were enabled by hand", status)
	}
	m.command("", "import", "--from", "{env.SERVICE_DSN}", "--table", "public.system_keys", "--follow")
	m.barrier()
	victim.gone.Store(true)
	if status, _ := m.status(victim); status != http.StatusUnauthorized {
		m.t.Errorf("the key that was deleted meanwhile got %d", status)
	}
	if status, _ := m.status(theirs[1]); status != http.StatusOK {
		m.t.Errorf("after the triggers were put back an imported key got %d", status)
	}
	m.suspended.Store(false)
	m.says("the triggers are back: imported keys are accepted again, but for the one that was deleted meanwhile")
}
