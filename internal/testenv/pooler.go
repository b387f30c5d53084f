package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Pooler is a PgBouncer that hands each transaction to any of its connections.
type Pooler struct {
	server *server
	port   string
}

// StartPooler puts a pooler in front of a PostgreSQL server, for this test alone,
// and ends it with the test. Options are settings of PgBouncer.
func StartPooler(tb testing.TB, behind *Postgres, opts ...Option) *Pooler {
	tb.Helper()
	var p *Pooler
	err := onFreePort(func(port string) (err error) {
		p, err = newPooler(port, behind, opts)
		return err
	})
	if err != nil {
		tb.Fatalf("start PgBouncer: %v", err)
	}
	tb.Cleanup(func() {
		if err := p.server.close(); err != nil {
			tb.Errorf("clean up after PgBouncer: %v", err)
		}
	})
	return p
}

func newPooler(port string, behind *Postgres, opts []Option) (_ *Pooler, err error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		return nil, errors.New("pgbouncer is missing (on Debian: apt-get install pgbouncer)")
	}
	cred, err := serverUser() // it refuses to run as root, too
	if err != nil {
		return nil, err
	}
	folder, err := newFolder(syscall.SIGKILL, cred)
	if err != nil {
		return nil, err
	}
	p := &Pooler{port: port}
	config := filepath.Join(folder.path, "pgbouncer.ini")
	p.server = &server{
		name:    "PgBouncer",
		folder:  folder,
		cred:    cred,
		command: func() []string { return []string{program, config} },
		ready: func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, "postgres://postgres@"+p.Addr()+"/postgres?sslmode=disable&default_query_exec_mode=exec")
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
		finish: syscall.SIGINT,
	}
	settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
ignore_startup_parameters = extra_float_digits
`, behind.port, port)
	lines := []byte(settings)
	for _, s := range collect(opts).settings { // the last one counts
		lines = append(lines, s.name+" = "+s.value+"\n"...)
	}
	err = os.WriteFile(config, lines, 0o644) // for another user to read
	if err == nil {
		err = p.server.start()
	}
	if err != nil {
		_ = p.server.close()
		return nil, err
	}
	return p, nil
}

// Addr is the pooler's host:port.
func (p *Pooler) Addr() string { return net.JoinHostPort("127.0.0.1", p.port) }
