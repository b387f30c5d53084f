package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patroni is two PostgreSQL servers, of which Patroni makes one the primary, and the
// etcd in which it keeps who that is. They belong to one test, like [Postgres].
type Patroni struct {
	// Nodes are both. Which is the primary changes.
	Nodes [2]*PatroniNode

	tb          testing.TB
	synchronous bool
	etcd        *server
}

// PatroniNode is a PostgreSQL server and the Patroni that looks after it.
type PatroniNode struct {
	// Etcd is the network between this Patroni and etcd.
	Etcd *Link
	// Replication is the network by which the other node reaches this PostgreSQL.
	Replication *Link

	cluster *Patroni
	name    string
	port    string
	api     string
	server  *server // Patroni; PostgreSQL is no child of it
}

// PatroniSettings are the times of Patroni in tests: a primary that is gone is replaced
// when ttl is over.
const PatroniSettings = `ttl: 6
    loop_wait: 1
    retry_timeout: 2`

// StartPatroni starts them, and returns when one node follows the other. With
// synchronous a commit waits for it.
func StartPatroni(tb testing.TB, synchronous bool) *Patroni {
	tb.Helper()
	c := &Patroni{tb: tb, synchronous: synchronous}
	cred, err := serverUser()
	c.must("find a user for", err)
	client := FreeAddress(tb)
	c.must("start", c.startEtcd(client, FreeAddress(tb), cred))
	for n := range c.Nodes {
		node := &PatroniNode{cluster: c, name: fmt.Sprintf("node%d", n+1), api: FreeAddress(tb), Etcd: Proxy(tb, client)}
		_, node.port, _ = net.SplitHostPort(FreeAddress(tb))
		node.Replication = Proxy(tb, node.address())
		c.must("start", node.start(cred))
		c.Nodes[n] = node
	}
	c.Settled()
	return c
}

func (c *Patroni) startEtcd(client, peer string, cred *syscall.Credential) error {
	program, err := exec.LookPath("etcd")
	if err != nil {
		return errors.New("etcd is missing (on Debian: apt-get install etcd-server)")
	}
	folder, err := newFolder(syscall.SIGKILL, cred)
	if err != nil {
		return err
	}
	c.etcd = &server{
		name: "etcd", folder: folder, cred: cred, finish: syscall.SIGTERM,
		command: func() []string {
			return []string{
				program, "--data-dir", filepath.Join(folder.path, "data"), "--unsafe-no-fsync",
				"--listen-client-urls", "http://" + client, "--advertise-client-urls", "http://" + client,
				"--listen-peer-urls", "http://" + peer, "--initial-advertise-peer-urls", "http://" + peer,
				"--initial-cluster", "default=http://" + peer,
			}
		},
		ready: func(ctx context.Context) error { return ask(ctx, http.MethodGet, "http://"+client+"/health", "", nil) },
	}
	c.tb.Cleanup(func() { c.must("clean up after", c.etcd.close()) })
	return c.etcd.start()
}

// DSN is a URL that finds the primary, whichever node that is.
func (c *Patroni) DSN(database string) string {
	return fmt.Sprintf("postgres://postgres@%s,%s/%s?target_session_attrs=read-write&connect_timeout=2&sslmode=disable",
		c.Nodes[0].address(), c.Nodes[1].address(), database)
}

// DSN is a URL of this node alone, primary or not.
func (n *PatroniNode) DSN(database string) string {
	return "postgres://postgres@" + n.address() + "/" + database + "?sslmode=disable"
}

// Settled waits until one node is the primary and the other follows it, and returns
// the primary.
func (c *Patroni) Settled() *PatroniNode {
	c.tb.Helper()
	follower := "replica"
	if c.synchronous {
		follower = "sync_standby"
	}
	return c.await("one node follows the other", func(roles map[string]string) bool {
		return (roles[c.Nodes[0].name] == "leader" && roles[c.Nodes[1].name] == follower) ||
			(roles[c.Nodes[1].name] == "leader" && roles[c.Nodes[0].name] == follower)
	})
}

// PromotedAfter waits until another node than this is the primary.
func (c *Patroni) PromotedAfter(old *PatroniNode) *PatroniNode {
	c.tb.Helper()
	return c.await("the other node is the primary", func(roles map[string]string) bool {
		return roles[c.Other(old).name] == "leader"
	})
}

// Other is the other node.
func (c *Patroni) Other(n *PatroniNode) *PatroniNode {
	if n == c.Nodes[0] {
		return c.Nodes[1]
	}
	return c.Nodes[0]
}

// await waits for roles of the nodes that run, and returns the leader.
func (c *Patroni) await(what string, condition func(roles map[string]string) bool) *PatroniNode {
	c.tb.Helper()
	var last string
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, n := range c.Nodes {
			roles, err := n.roles()
			if last = fmt.Sprint(roles, err); err != nil || !condition(roles) {
				continue
			}
			for _, n := range c.Nodes {
				n.guard()
			}
			if roles[c.Nodes[0].name] == "leader" {
				return c.Nodes[0]
			}
			return c.Nodes[1]
		}
	}
	for _, n := range c.Nodes {
		c.tb.Logf("%s:\n%s", n.name, tail(filepath.Join(n.server.folder.path, "log")))
	}
	c.tb.Fatalf("it did not come to this in Patroni: %s. Last: %s", what, last)
	return nil
}

// Switchover makes the other node the primary, in good order.
func (c *Patroni) Switchover() {
	c.tb.Helper()
	leader := c.Settled()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.must("switch over", ask(ctx, http.MethodPost, "http://"+leader.api+"/switchover", `{"leader":"`+leader.name+`"}`, nil))
}

func (c *Patroni) must(what string, err error) {
	if err != nil {
		c.tb.Helper()
		c.tb.Fatalf("%s Patroni: %v", what, err)
	}
}

func (n *PatroniNode) address() string { return net.JoinHostPort("127.0.0.1", n.port) }

func (n *PatroniNode) data() string { return filepath.Join(n.server.folder.path, "data") }

func (n *PatroniNode) start(cred *syscall.Credential) error {
	program, err := exec.LookPath("patroni")
	if err != nil {
		return errors.New("patroni is missing (on Debian: apt-get install patroni)")
	}
	folder, err := newFolder(syscall.SIGQUIT, cred)
	if err != nil {
		return err
	}
	config := filepath.Join(folder.path, "patroni.yml")
	n.server = &server{
		name: "Patroni", folder: folder, cred: cred, finish: syscall.SIGTERM,
		command: func() []string { return []string{program, config} },
		ready: func(ctx context.Context) error {
			return ask(ctx, http.MethodGet, "http://"+n.api+"/liveness", "", nil)
		},
	}
	n.cluster.tb.Cleanup(func() {
		n.cluster.must("clean up after", errors.Join(n.server.kill(), n.killPostgres(), n.server.close()))
	})
	content, err := n.config()
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil { // for another user to read
		return err
	}
	return n.server.start()
}

func (n *PatroniNode) config() (string, error) {
	postgres, err := program("postgres")
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"$name", n.name, "$etcd", n.Etcd.Addr(), "$api", n.api, "$listen", n.address(), "$connect", n.Replication.Addr(),
		"$folder", n.server.folder.path, "$bin", filepath.Dir(postgres), "$settings", PatroniSettings,
		"$synchronous", fmt.Sprint(n.cluster.synchronous), "$every", "all", // databases
	).Replace(`scope: keys
name: $name
etcd3:
  hosts: $etcd
  use_proxies: true # does not look for other addresses of etcd
restapi: {listen: "$api", connect_address: "$api"}
bootstrap:
  dcs:
    $settings
    primary_start_timeout: 0
    synchronous_mode: $synchronous
    postgresql:
      use_pg_rewind: true
      parameters: {wal_log_hints: "on", max_connections: 100}
  initdb: [encoding: UTF8, no-locale, no-sync, auth: trust]
  pg_hba: [local $every all trust, host $every all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
postgresql:
  listen: $listen
  connect_address: $connect
  data_dir: $folder/data
  bin_dir: $bin
  pgpass: $folder/pgpass
  parameters:
    unix_socket_directories: $folder
    shared_buffers: 32MB
    fsync: "off"
    full_page_writes: "on" # pg_rewind asks for it
    dynamic_shared_memory_type: mmap
  authentication:
    superuser: {username: postgres, password: none}
    replication: {username: replicator, password: none}
    rewind: {username: rewinder, password: none}
`), nil
}

// Kill ends Patroni and PostgreSQL at once, as if the machine had lost its power.
func (n *PatroniNode) Kill() {
	n.cluster.tb.Helper()
	n.KillPatroni()
	n.cluster.must("kill the PostgreSQL of", n.killPostgres())
}

// KillPostgres ends PostgreSQL at once. Patroni notices.
func (n *PatroniNode) KillPostgres() {
	n.cluster.tb.Helper()
	n.cluster.must("kill the PostgreSQL of", n.killPostgres())
}

// KillPatroni ends Patroni alone: its PostgreSQL goes on, and nobody looks after it.
func (n *PatroniNode) KillPatroni() {
	n.cluster.tb.Helper()
	n.cluster.must("kill", n.server.kill())
}

// Start starts Patroni again after [PatroniNode.Kill] or [PatroniNode.KillPatroni].
func (n *PatroniNode) Start() {
	n.cluster.tb.Helper()
	n.cluster.must("start", n.server.start())
}

func (n *PatroniNode) killPostgres() error {
	pid, segment := postmaster(n.data())
	if pid == 0 || gone(pid) {
		return nil
	}
	// Halted first, so that no process is started while the others are being killed.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	if err := await("halted", halted, pid); err != nil {
		return err
	}
	all, err := children(pid)
	if err != nil {
		return err
	}
	all = append(all, pid)
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
	removeSegment(segment)
	return await("gone", gone, all...)
}

// guard tells the watchdog which PostgreSQL there is now. One that Patroni has started
// since ends when it notices that its folder is gone, within a minute.
func (n *PatroniNode) guard() {
	n.server.mu.Lock()
	defer n.server.mu.Unlock()
	if pid, _ := postmaster(n.data()); pid != 0 && n.server.pid != 0 {
		_ = n.server.folder.serves(n.server.pid, pid)
	}
}

// roles asks the node's Patroni who is what. Who does not run is not in it.
func (n *PatroniNode) roles() (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var cluster struct {
		Members []struct{ Name, Role, State string }
	}
	if err := ask(ctx, http.MethodGet, "http://"+n.api+"/cluster", "", &cluster); err != nil {
		return nil, err
	}
	roles := make(map[string]string)
	for _, m := range cluster.Members {
		if m.State == "running" || m.State == "streaming" {
			roles[m.Name] = m.Role
		}
	}
	return roles, nil
}

func ask(ctx context.Context, method, url, content string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(content))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answered %d %s", url, response.StatusCode, bytes.TrimSpace(body))
	case into == nil:
		return nil
	}
	return json.Unmarshal(body, into)
}
