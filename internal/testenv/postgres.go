package testenv

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// Postgres is a PostgreSQL server that belongs to one test. Its methods fail
// that test if they cannot do what they say. They may be called from any
// goroutine of the test, but, as they may fail it, not after its end.
type Postgres struct {
	tb     testing.TB
	server *server
	// port is empty if the server listens on its unix socket alone.
	port string
}

// StartPostgres starts a PostgreSQL server for this test alone, and ends it
// with the test. It listens on a port of the loopback interface, the same one
// after every restart. Whoever can connect is superuser. Unless [Durable] is
// given it does not wait for the disk.
func StartPostgres(tb testing.TB, opts ...Option) *Postgres {
	tb.Helper()
	return startPostgres(tb, newCluster, opts)
}

// startPostgres starts a server whose data folder fill makes.
func startPostgres(tb testing.TB, fill func(data string, cred *syscall.Credential) error, opts []Option) *Postgres {
	tb.Helper()
	var p *Postgres
	err := onFreePort(func(port string) (err error) {
		p, err = newPostgres(port, fill, opts)
		return err
	})
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	p.tb = tb
	tb.Cleanup(func() { p.must("clean up after", p.server.close()) })
	return p
}

func newPostgres(port string, fill func(data string, cred *syscall.Credential) error, opts []Option) (_ *Postgres, err error) {
	postgres, err := program("postgres")
	if err != nil {
		return nil, err
	}
	cred, err := serverUser()
	if err != nil {
		return nil, err
	}
	// SIGQUIT is PostgreSQL's immediate shutdown: it also frees the segment of
	// System V shared memory, which SIGKILL would leave in the kernel.
	folder, err := newFolder(syscall.SIGQUIT, cred)
	if err != nil {
		return nil, err
	}
	p := &Postgres{port: port}
	p.server = &server{
		name:    "PostgreSQL",
		folder:  folder,
		cred:    cred,
		command: func() []string { return append([]string{postgres}, p.arguments(opts)...) },
		ready:   p.ping,
		finish:  syscall.SIGINT, // "fast": clients are told, and not waited for
	}
	defer func() {
		if err != nil {
			_ = p.server.close()
		}
	}()
	if err := fill(p.data(), cred); err != nil {
		return nil, err
	}
	return p, p.server.start()
}

func (p *Postgres) arguments(opts []Option) []string {
	settings := []setting{
		{"unix_socket_directories", p.server.folder.path},
		{"listen_addresses", ""},
		{"max_connections", "200"},
		{"shared_buffers", "32MB"},
		{"fsync", "off"},
		{"full_page_writes", "off"},
		// In files below the data folder, where a kill leaves nothing behind.
		{"dynamic_shared_memory_type", "mmap"},
	}
	if p.port != "" {
		settings = append(settings, setting{"listen_addresses", "127.0.0.1"}, setting{"port", p.port})
	}
	arguments := []string{"-D", p.data()}
	for _, s := range append(settings, collect(opts).settings...) {
		arguments = append(arguments, "-c", s.name+"="+s.value)
	}
	return arguments
}

// Addr is the server's host:port, to put a [Proxy] in front of it.
func (p *Postgres) Addr() string { return net.JoinHostPort("127.0.0.1", p.port) }

// DSN is the URL of one of the server's databases, such as "postgres".
func (p *Postgres) DSN(database string) string {
	u := &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database}
	query := url.Values{"sslmode": {"disable"}}
	if p.port == "" {
		query.Set("host", p.server.folder.path)
	} else {
		u.Host = p.Addr()
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// Folder is where the server keeps everything: its log as "log", its unix
// socket, and its data folder "data". It goes when the test ends.
func (p *Postgres) Folder() string { return p.server.folder.path }

// Database creates an empty database on the server and returns its URL.
func (p *Postgres) Database() string {
	p.tb.Helper()
	name, err := createDatabase(context.Background(), p.DSN("postgres"))
	p.must("create a database on", err)
	return p.DSN(name)
}

// Kill ends every process of the server at once, without warning to anybody,
// as if the machine had lost its power.
func (p *Postgres) Kill() {
	p.tb.Helper()
	_, segment := postmaster(p.data())
	p.must("kill", p.server.kill())
	removeSegment(segment)
}

// Stop ends the server in good order: its clients are told, and cut.
func (p *Postgres) Stop() {
	p.tb.Helper()
	p.must("stop", p.server.stop())
}

// Start starts the server again after [Postgres.Kill] or [Postgres.Stop], and
// returns when it answers.
func (p *Postgres) Start() {
	p.tb.Helper()
	p.must("start", p.server.start())
}

// Restart is [Postgres.Stop] and then [Postgres.Start].
func (p *Postgres) Restart() {
	p.tb.Helper()
	p.Stop()
	p.Start()
}

// Pause halts every process of the server: connections stay open, new ones are
// still accepted by the kernel, and nobody answers.
func (p *Postgres) Pause() {
	p.tb.Helper()
	p.must("pause", p.server.pause())
}

// Resume ends a [Postgres.Pause].
func (p *Postgres) Resume() {
	p.tb.Helper()
	p.must("resume", p.server.resume())
}

func (p *Postgres) data() string { return filepath.Join(p.server.folder.path, "data") }

func (p *Postgres) must(what string, err error) {
	if err != nil {
		p.tb.Helper()
		p.tb.Fatalf("%s PostgreSQL: %v", what, err)
	}
}

func (p *Postgres) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// postmaster is the process id of the server that runs on a data folder, or 0, and
// the id of its segment of System V shared memory, or -1. They are the first line of
// postmaster.pid and the second number in its seventh, see src/include/utils/pidfile.h.
func postmaster(data string) (pid, segment int) {
	file, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, -1
	}
	lines := bytes.Split(file, []byte("\n"))
	pid, _ = strconv.Atoi(string(lines[0]))
	if len(lines) < 7 {
		return pid, -1
	}
	fields := bytes.Fields(lines[6])
	if len(fields) != 2 {
		return pid, -1
	}
	if segment, err = strconv.Atoi(string(fields[1])); err != nil {
		return pid, -1
	}
	return pid, segment
}

func removeSegment(segment int) {
	if segment >= 0 {
		_, _ = unix.SysvShmCtl(segment, unix.IPC_RMID, nil)
	}
}
