package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// given are the ports that this process was given already: they may not be in use
// yet, or not at the moment.
var given sync.Map

// freePort finds a port of the loopback interface that nobody listens on. It
// lies below the range from which Linux takes the ports of outgoing
// connections, so that it is still free when a server comes back to it.
func freePort() (string, error) {
	var err error
	for range 100 {
		port := strconv.Itoa(12000 + rand.IntN(20000))
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err != nil {
			continue
		}
		if err = listener.Close(); err != nil {
			return "", err
		}
		if _, taken := given.LoadOrStore(port, true); !taken {
			return port, nil
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// onFreePort calls start with a free port, and with another one if somebody
// was faster to take it.
func onFreePort(start func(port string) error) error {
	var err error
	for range 5 {
		var port string
		if port, err = freePort(); err != nil {
			return err
		}
		err = start(port)
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), "address already in use") {
			return err
		}
	}
	return err
}

// FreeAddress is a loopback host:port that nobody listens on. Nobody is given it
// for an outgoing connection either.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", port)
}
