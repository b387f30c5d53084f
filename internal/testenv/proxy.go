package testenv

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Link is a network between clients and one server that can be made to fail.
// Its methods fail the test that it belongs to if they cannot do what they say.
type Link struct {
	tb    testing.TB
	proxy *toxiproxy.Proxy
}

// Proxy puts a network in front of the server at upstream, a host:port. It is
// sound at first, and ends with the test.
func Proxy(tb testing.TB, upstream string) *Link {
	tb.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &Link{tb: tb, proxy: toxiproxy.NewProxy(api, "link", "127.0.0.1:0", upstream)}
	l.must("start", l.proxy.Start())
	tb.Cleanup(l.proxy.Stop)
	return l
}

// Addr is the host:port at which clients reach the server. It stays the same.
func (l *Link) Addr() string {
	l.proxy.Lock()
	defer l.proxy.Unlock()
	return l.proxy.Listen
}

// BlackHole loses every byte in both directions, on old connections and new
// ones, while connections are still accepted.
func (l *Link) BlackHole() {
	l.tb.Helper()
	l.add(`{"type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}`)
	l.add(`{"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)
}

// Slow delays everything that the server says, on old connections and new ones.
func (l *Link) Slow(latency time.Duration) {
	l.tb.Helper()
	l.add(`{"type": "latency", "stream": "downstream", "attributes": {"latency": ` + strconv.FormatInt(latency.Milliseconds(), 10) + `}}`)
}

// Reset resets connections as soon as a client says something.
func (l *Link) Reset() {
	l.tb.Helper()
	l.add(`{"type": "reset_peer", "stream": "upstream", "attributes": {"timeout": 0}}`)
}

// Refuse closes every connection and refuses new ones.
func (l *Link) Refuse() {
	l.tb.Helper()
	l.proxy.Stop()
}

// Heal makes the network sound again. Connections that lost something are
// closed.
func (l *Link) Heal() {
	l.tb.Helper()
	l.proxy.Toxics.ResetToxics(context.Background())
	if err := l.proxy.Start(); !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		l.must("restart", err)
	}
}

func (l *Link) add(toxic string) {
	l.tb.Helper()
	_, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	l.must("disturb", err)
}

func (l *Link) must(what string, err error) {
	if err != nil {
		l.tb.Helper()
		l.tb.Fatalf("%s the proxy: %v", what, err)
	}
}
