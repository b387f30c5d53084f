package testenv

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Switch is an address behind which one server is put in the place of another, as a
// name or a virtual address is moved in a failover: new connections go to the new
// one, and those that are there stay with the old.
type Switch struct {
	listener net.Listener

	mu      sync.Mutex
	targets []string          // the next one first
	open    map[net.Conn]bool // nil: the test has ended
	ended   sync.WaitGroup
}

// NewSwitch leads to the server at target, a host:port, and ends with the test.
func NewSwitch(tb testing.TB, target string) *Switch {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
	if err != nil {
		tb.Fatal(err)
	}
	s := &Switch{listener: listener, targets: []string{target}, open: make(map[net.Conn]bool)}
	s.ended.Go(s.serve)
	tb.Cleanup(s.close)
	return s
}

// Addr is the host:port at which clients reach the server. It stays the same.
func (s *Switch) Addr() string { return s.listener.Addr().String() }

// To leads new connections to another server, or to several in turn.
func (s *Switch) To(targets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = targets
}

func (s *Switch) serve() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.ended.Go(func() { s.carry(client) })
	}
}

func (s *Switch) carry(client net.Conn) {
	s.mu.Lock()
	target := s.targets[0]
	s.targets = append(s.targets[1:len(s.targets):len(s.targets)], target)
	s.mu.Unlock()
	server, err := net.Dial("tcp", target) //nolint:noctx // on this machine
	if err != nil {
		_ = client.Close()
		return
	}
	s.mu.Lock()
	if s.open == nil {
		s.mu.Unlock()
		_, _ = client.Close(), server.Close()
		return
	}
	s.open[client], s.open[server] = true, true
	s.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = client.Close(), server.Close()
		})
	}
	both.Wait()
	s.mu.Lock()
	delete(s.open, client)
	delete(s.open, server)
	s.mu.Unlock()
}

func (s *Switch) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		_ = conn.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.ended.Wait()
}
