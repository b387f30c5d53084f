package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Redis is a Redis server that belongs to one test, with an empty memory after
// each start. Its methods fail that test if they cannot do what they say. They
// may be called from any goroutine of the test, but, as they may fail it, not
// after its end.
type Redis struct {
	tb     testing.TB
	server *server
	// port is empty if the server listens on its unix socket alone.
	port     string
	password string
	tls      bool
}

// sharedDatabases is how many databases the shared server has, and so how often
// one test binary can call [RedisURL].
const sharedDatabases = 4096

// sharedRedis is the server that the test binary's [RedisURL] calls share.
var sharedRedis = sync.OnceValues(func() (*Redis, error) {
	return newRedis("", []Option{Setting("databases", strconv.Itoa(sharedDatabases))}, nil)
})

var redisDatabases atomic.Int64

// RedisURL returns the URL of an empty database that belongs to this test
// alone, on a server that the test binary shares. If SYSTEM_KEYS_TEST_REDIS
// holds a URL, it is returned as it is, and the test shares that database with
// whoever uses it.
func RedisURL(tb testing.TB) string {
	tb.Helper()
	if elsewhere := os.Getenv("SYSTEM_KEYS_TEST_REDIS"); elsewhere != "" {
		return elsewhere
	}
	shared, err := sharedRedis()
	if err != nil {
		tb.Fatalf("start Redis: %v", err)
	}
	n := redisDatabases.Add(1) - 1
	if n >= sharedDatabases {
		tb.Fatalf("this test binary has used all %d databases of its Redis", sharedDatabases)
	}
	return shared.SocketURL() + "?db=" + strconv.FormatInt(n, 10)
}

// StartRedis starts a Redis server for this test alone, and ends it with the
// test. It listens on a port of the loopback interface, the same one after
// every restart, and on a unix socket. It keeps nothing on disk.
func StartRedis(tb testing.TB, opts ...Option) *Redis {
	tb.Helper()
	return startRedis(tb, opts, nil)
}

// A prelude makes the arguments of redis-server that come before all settings,
// and the files in the server's folder that they name.
type prelude func(folder string) ([]string, error)

func startRedis(tb testing.TB, opts []Option, before prelude) *Redis {
	tb.Helper()
	var r *Redis
	err := onFreePort(func(port string) (err error) {
		r, err = newRedis(port, opts, before)
		return err
	})
	if err != nil {
		tb.Fatalf("start Redis: %v", err)
	}
	r.tb = tb
	tb.Cleanup(func() { r.must("clean up after", r.server.close()) })
	return r
}

func newRedis(port string, opts []Option, before prelude) (*Redis, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is missing (on Debian: apt-get install redis-server)")
	}
	folder, err := newFolder(syscall.SIGKILL, nil)
	if err != nil {
		return nil, err
	}
	argv := []string{program}
	o := collect(opts)
	r := &Redis{port: port, password: o.value("requirepass"), tls: o.value("tls-cert-file") != ""}
	r.server = &server{
		name:    "Redis",
		folder:  folder,
		command: func() []string { return append(slices.Clone(argv), r.arguments(opts)...) },
		ready:   func(ctx context.Context) error { return r.send(ctx, "PING") },
		finish:  syscall.SIGTERM,
	}
	if before != nil {
		var first []string
		first, err = before(folder.path)
		argv = append(argv, first...)
	}
	if err == nil {
		err = r.server.start()
	}
	if err != nil {
		_ = r.server.close()
		return nil, err
	}
	return r, nil
}

func (r *Redis) arguments(opts []Option) []string {
	settings := []setting{
		{"port", "0"},
		{"bind", "127.0.0.1"},
		{"unixsocket", r.socket()},
		{"dir", r.server.folder.path},
		{"save", ""},
		{"appendonly", "no"},
	}
	switch {
	case r.tls:
		settings = append(settings, setting{"tls-port", r.port})
	case r.port != "":
		settings = append(settings, setting{"port", r.port})
	}
	var arguments []string
	for _, s := range append(settings, collect(opts).settings...) {
		arguments = append(arguments, "--"+s.name, s.value)
	}
	return arguments
}

// Addr is the server's host:port, to put a [Proxy] in front of it.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", r.port) }

// URL is the server's address as redis://, or as rediss:// with [MutualTLS], and with its
// password if it has one.
func (r *Redis) URL() string {
	u := &url.URL{Scheme: "redis", Host: r.Addr(), User: r.user()}
	if r.tls {
		u.Scheme = "rediss"
	}
	return u.String()
}

// SocketURL is the address of the server's unix socket as unix://.
func (r *Redis) SocketURL() string {
	u := &url.URL{Scheme: "unix", Path: r.socket(), User: r.user()}
	return u.String()
}

// Folder is where the server keeps everything: its log as "log", and its unix
// socket. It goes when the test ends.
func (r *Redis) Folder() string { return r.server.folder.path }

// FlushAll empties every database of the server.
func (r *Redis) FlushAll() {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.must("flush", r.send(ctx, "FLUSHALL"))
}

// Command gives the server one command, which it must answer with OK.
func (r *Redis) Command(command string) {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.must("command", r.send(ctx, command))
}

// Kill ends the server at once; what it remembered is lost.
func (r *Redis) Kill() {
	r.tb.Helper()
	r.must("kill", r.server.kill())
}

// Start starts the server again after a [Redis.Kill], and returns when it
// answers.
func (r *Redis) Start() {
	r.tb.Helper()
	r.must("start", r.server.start())
}

// Restart ends the server in good order and starts it again, with an empty
// memory.
func (r *Redis) Restart() {
	r.tb.Helper()
	r.must("stop", r.server.stop())
	r.Start()
}

// Pause halts the server: connections stay open, new ones are still accepted by
// the kernel, and nobody answers.
func (r *Redis) Pause() {
	r.tb.Helper()
	r.must("pause", r.server.pause())
}

// Resume ends a [Redis.Pause].
func (r *Redis) Resume() {
	r.tb.Helper()
	r.must("resume", r.server.resume())
}

func (r *Redis) socket() string { return filepath.Join(r.server.folder.path, "redis.sock") }

func (r *Redis) user() *url.Userinfo {
	if r.password == "" {
		return nil
	}
	return url.UserPassword("", r.password)
}

func (r *Redis) must(what string, err error) {
	if err != nil {
		r.tb.Helper()
		r.tb.Fatalf("%s Redis: %v", what, err)
	}
}

// send gives the server one command in the inline form of its protocol, over
// the unix socket.
func (r *Redis) send(ctx context.Context, command string) (err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.socket())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	commands := []string{command}
	if r.password != "" {
		commands = []string{"AUTH " + r.password, command}
	}
	answers := bufio.NewReader(conn)
	for _, command := range commands {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(answer, "+") {
			return fmt.Errorf("redis says %q", strings.TrimSpace(answer))
		}
	}
	return nil
}
