package testenv

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// StartVarnish starts a Varnish for this test alone, in front of the server at a host:port, and
// returns its address. It has its built-in rules, with more of VCL before them if there is any.
// It needs no user of its own: it runs without a jail, as whoever runs the test.
func StartVarnish(tb testing.TB, behind, vcl string) string {
	tb.Helper()
	var v *server
	var address string
	err := onFreePort(func(port string) (err error) {
		address = net.JoinHostPort("127.0.0.1", port)
		v, err = newVarnish(address, behind, vcl)
		return err
	})
	if err != nil {
		tb.Fatalf("start Varnish: %v", err)
	}
	tb.Cleanup(func() {
		if err := v.close(); err != nil {
			tb.Errorf("clean up after Varnish: %v", err)
		}
	})
	return address
}

func newVarnish(address, behind, vcl string) (*server, error) {
	program, err := exec.LookPath("varnishd")
	if err != nil {
		return nil, errors.New("varnishd is missing (on Debian: apt-get install varnish)")
	}
	host, port, err := net.SplitHostPort(behind)
	if err != nil {
		return nil, err
	}
	folder, err := newFolder(syscall.SIGTERM, nil)
	if err != nil {
		return nil, err
	}
	rules := filepath.Join(folder.path, "rules.vcl")
	v := &server{
		name:   "Varnish",
		folder: folder,
		command: func() []string {
			return []string{
				program, "-F", "-j", "none", "-n", filepath.Join(folder.path, "work"), "-a", address, "-f", rules,
				"-s", "malloc,16m", "-T", "none",
			}
		},
		// It listens before it has its rules: a connection waits in the kernel until then.
		ready: func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		},
		finish: syscall.SIGTERM,
	}
	text := "vcl 4.1;\nbackend default {\n\t.host = \"" + host + "\";\n\t.port = \"" + port + "\";\n}\n" + vcl
	if err = os.WriteFile(rules, []byte(text), 0o600); err == nil {
		err = v.start()
	}
	if err != nil {
		_ = v.close()
		return nil, err
	}
	return v, nil
}
