package testenv_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestProxy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		disturb func(*testenv.Link)
		// want is met by what a client sees that says something.
		want func(err error) bool
	}{
		{"a sound network carries bytes", func(*testenv.Link) {}, func(err error) bool { return err == nil }},
		{"a black hole keeps silent", (*testenv.Link).BlackHole, silent},
		{"a slow network keeps silent at first", func(l *testenv.Link) { l.Slow(time.Hour) }, silent},
		{"a reset ends the connection", (*testenv.Link).Reset, ended},
		{"a refusal ends the connection", (*testenv.Link).Refuse, ended},
	}
	for _, test := range tests {
		for when, early := range map[string]bool{"an old connection": true, "a new connection": false} {
			t.Run(test.name+" on "+when, func(t *testing.T) {
				t.Parallel()
				link := testenv.Proxy(t, echo(t))
				var conn net.Conn
				if early {
					conn = reach(t, link.Addr())
					if err := talk(conn); err != nil {
						t.Fatal(err)
					}
				}
				test.disturb(link)
				if err := try(t, conn, link.Addr()); !test.want(err) {
					t.Errorf("the client sees %v", err)
				}
				addr := link.Addr()
				link.Heal()
				if err := talk(reach(t, addr)); err != nil {
					t.Errorf("after it was healed, the client sees %v", err)
				}
			})
		}
	}
}

func silent(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED)
}

// try talks over a connection, or over a new one if it is nil.
func try(t *testing.T, conn net.Conn, addr string) error {
	t.Helper()
	if conn == nil {
		var err error
		if conn, err = net.Dial("tcp", addr); err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	// Long enough for an answer to come if one comes at all.
	if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	return talk(conn)
}

// talk says something and reads the echo.
func talk(conn net.Conn) error {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

func reach(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echo starts a server that says what it hears, and returns its address.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// shortly is when a server that answers at all has done so.
func shortly() <-chan time.Time { return time.After(50 * time.Millisecond) }
