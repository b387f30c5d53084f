package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// awaitOneListener waits until the sockets that a configuration listens on are
// the only ones on their ports. Caddy opens new ones beside those of the
// configuration before (SO_REUSEPORT), and does not wait until it has closed the
// old ones (modules/caddyhttp/app.go: "the scheduler might still pause them right
// before calling Shutdown"): a connection that the kernel puts into the queue of
// an old one meanwhile ends without an answer, with this plugin and without.
func awaitOneListener(tb testing.TB, config []byte) {
	tb.Helper()
	var c struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct{ Listen []string }
			}
		}
	}
	if err := json.Unmarshal(config, &c); err != nil {
		tb.Fatal(err)
	}
	for _, server := range c.Apps.HTTP.Servers {
		for _, address := range server.Listen {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				tb.Fatal(err)
			}
			for deadline := time.Now().Add(patience); listeners(tb, port) > 1; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					tb.Fatalf("port %s still has two listeners", port)
				}
			}
		}
	}
}

// listeners counts the sockets that listen on a port, as far as the system tells
// (Linux: proc_net_tcp.txt; 0A is TCP_LISTEN).
func listeners(tb testing.TB, port string) int {
	tb.Helper()
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		tb.Fatal(err)
	}
	suffix, n := fmt.Sprintf(":%04X", number), 0
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) > 3 && fields[3] == "0A" && strings.HasSuffix(fields[1], suffix) {
				n++
			}
		}
		_ = file.Close()
	}
	return n
}
