package redis_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func TestCacheAuthenticates(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.Setting("requirepass", "hunter2"))
	for _, url := range []string{server.URL(), server.SocketURL(), strings.Replace(server.URL(), "//:", "//default:", 1)} {
		cache := newCache(t, redis.Options{}, url)
		mustSet(t, cache, "k", "v")
		wantValue(t, cache, "k", "v")
	}
}

func TestAWrongPasswordIsAnErrorWithoutIt(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.Setting("requirepass", "right"))
	for name, url := range map[string]string{
		"a wrong password":             "redis://:hunter2@" + server.Addr(),
		"a wrong password of somebody": "redis://ann:hunter2@" + server.Addr(),
		"no password":                  "redis://" + server.Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ask(t.Context(), newCache(t, redis.Options{}, url))
			wantSecret(t, err, "WRONGPASS", "NOAUTH")
		})
	}
}

// A server without the command HELLO repeats it, and the password in it.
func TestAServerThatRepeatsThePasswordIsNotRepeated(t *testing.T) {
	t.Parallel()
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
				answer(conn, func(command string) string {
					return "-ERR unknown command, with args beginning with: " + strings.ReplaceAll(command, "\r\n", " ")
				})
			}()
		}
	}()
	err = ask(t.Context(), newCache(t, redis.Options{}, "redis://:hunter2@"+listener.Addr().String()))
	wantSecret(t, err, "ERR")
	var text interface{ Unwrap() error }
	for errors.As(err, &text) {
		err = text.Unwrap()
		wantSecret(t, err, "ERR")
	}
}

func wantSecret(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	text := fmt.Sprintf("%v %+v %#v %q", err, err, err, err)
	if strings.Contains(text, "hunter2") {
		t.Errorf("the error holds the password: %s", text)
	}
	for _, word := range words {
		if strings.Contains(text, word) {
			return
		}
	}
	t.Errorf("the error is %q, want one of %q in it", err, words)
}

func TestNothingIsWrittenToStandardError(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.Setting("requirepass", "right"))
	wrong, nobody := "redis://:hunter2@"+server.Addr(), "redis://:hunter2@127.0.0.1:1"
	for name, urls := range map[string]string{
		"a server that is not there": nobody,
		"a wrong password":           wrong,
		"a cluster":                  wrong + " redis://127.0.0.1:1",
		"sentinels":                  nobody + "?master_name=m&sentinel_password=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), urlsVariable+"="+urls)
			out, err := child.CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("the child ends with %v and writes:\n%s", err, out)
			}
		})
	}
}
