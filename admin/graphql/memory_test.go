package graphql_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/graphql"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// serving is set in a process that serves the admin plane, with graphql_passthrough and
// an upstream that reads what it gets.
const serving = "SYSTEM_KEYS_TEST_SERVING"

func TestMain(m *testing.M) {
	if os.Getenv(serving) != "" {
		serve()
	}
	os.Exit(m.Run())
}

// serve prints its address, and serves until the process is killed.
func serve() {
	config := admin.Config{
		Service:  func(context.Context) (*admin.Service, error) { return nil, errors.New("there is no store") },
		Describe: func(*http.Request) store.AuditRequest { return store.AuditRequest{} },
		Denied:   func(store.AuditRecord) {}, Now: time.Now, Logger: slog.New(slog.DiscardHandler), GraphQLPassthrough: true,
	}
	h := admin.NewHandler(config, graphql.New(config))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.Serve(w, r, func(_ http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(io.Discard, r.Body)
			return err
		})
	})))
}

// server is a process of its own, so that what it has in memory is its own.
type server struct {
	tb      testing.TB
	address string
	pid     int
}

func startServer(t *testing.T, program string) *server {
	t.Helper()
	cmd := exec.Command(program, "-test.run=^$")
	cmd.Env = append(os.Environ(), serving+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &server{t, strings.TrimSpace(line), cmd.Process.Pid}
}

// memory is what the process has, in bytes, as proc(5) has it: VmRSS now, VmHWM at most.
func (s *server) memory(field string) int64 {
	s.tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.tb.Fatal(err)
	}
	found := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		s.tb.Fatalf("there is no %s in %s", field, text)
	}
	kilobytes, _ := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10
}

// post sends a document without a credential, and returns the status. The answer may
// come before all was sent.
func (s *server) post(body string) (int, error) {
	conn, err := net.DialTimeout("tcp", s.address, time.Minute)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		return 0, err
	}
	go func() {
		_, _ = fmt.Fprintf(conn, "POST /v1/gql HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", len(body))
		_, _ = io.WriteString(conn, body)
	}()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	_ = response.Body.Close()
	return response.StatusCode, nil
}

// TestNestedBodiesCostNoMemory sends 24 bodies of 1 MiB at once, of each kind: those
// that open as many levels as they can, and others that decoders make much of. The
// race detector would take several times the memory.
func TestNestedBodiesCostNoMemory(t *testing.T) { //nolint:tparallel // each has the memory of its server for itself
	t.Parallel()
	program := filepath.Join(t.TempDir(), "unraced")
	if err := testenv.Unraced(program); err != nil {
		t.Fatal(err)
	}
	const size, more = 1 << 20, 64 << 20
	fill := func(before, level, after string) string {
		return before + strings.Repeat(level, (size-len(before)-len(after))/len(level)) + after
	}
	var wide strings.Builder
	for i := 0; wide.Len() < size-100; i++ {
		fmt.Fprintf(&wide, `"%x":{},`, i)
	}
	for name, test := range map[string]struct {
		body   string
		status int
		more   int64
	}{
		"lists in variables":       {fill(`{"query":"{x}","variables":`, "[", ""), http.StatusBadRequest, more},
		"objects in variables":     {fill(`{"query":"{x}","variables":`, `{"a":`, ""), http.StatusBadRequest, more},
		"lists in extensions":      {fill(`{"query":"{x}","extensions":{"a":`, "[[[[", ""), http.StatusBadRequest, more},
		"lists at the top":         {fill("", "[", ""), http.StatusBadRequest, more},
		"selections of a document": {fill(`{"query":"`, "{a", `"}`), http.StatusBadRequest, 3 * more / 2},
		"lists in a document":      {fill(`{"query":"{a(x:`, "[", `"}`), http.StatusBadRequest, 3 * more / 2},
		// Behind a document are 24 MiB of bodies, and copies that are garbage at once.
		"many members of variables":  {`{"query":"{x}","variables":{` + wide.String() + `"":0}}`, http.StatusOK, 2 * more},
		"many tokens in a document":  {fill(`{"query":"{`, "a ", `}"}`), http.StatusBadRequest, 2 * more},
		"members that are not UTF-8": {`{"query":"{x}","variables":{` + wide.String() + "\"\xff\":0}}", http.StatusBadRequest, 2 * more},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, program)
			if status, err := s.post(`{"query":"{ x }"}`); status != http.StatusOK {
				t.Fatalf("%d, %v", status, err)
			}
			before := s.memory("VmRSS")
			var all sync.WaitGroup
			for range 24 {
				all.Go(func() {
					if status, err := s.post(test.body); status != test.status {
						t.Errorf("%d, %v, want %d", status, err, test.status)
					}
				})
			}
			all.Wait()
			grown := s.memory("VmHWM") - before
			t.Logf("%d MiB before, at most %d MiB more", before>>20, grown>>20)
			if grown > test.more {
				t.Errorf("%d MiB more, want %d at most", grown>>20, test.more>>20)
			}
		})
	}
}

// TestLargeBodiesAreBoundedTogether holds more of them open than may be read at once.
// What is small is served all the same, and a place that was left can be had again.
func TestLargeBodiesAreBoundedTogether(t *testing.T) {
	t.Parallel()
	s := startServer(t, os.Args[0])
	const places = 64
	begin := func() net.Conn {
		conn, err := net.DialTimeout("tcp", s.address, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
		_, err = fmt.Fprintf(conn, "POST /v1/gql HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{\"query\":\"{ x }\"%s", strings.Repeat(" ", 70<<10))
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conns := make([]net.Conn, places)
	for i := range conns {
		conns[i] = begin()
	}
	large := `{"query":"{ x }"` + strings.Repeat(" ", 70<<10) + "}"
	await := func(want int, meanwhile func()) {
		t.Helper()
		status := 0
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if status, _ = s.post(large); status == want {
				return
			}
			meanwhile()
		}
		t.Fatalf("a large body gets %d, want %d", status, want)
	}
	// A body that was sent to look may have had the last place, and one of those that
	// stay was refused.
	await(http.StatusServiceUnavailable, func() { conns = append(conns, begin()) })
	if status, err := s.post(`{"query":"{ x }"}`); status != http.StatusOK {
		t.Errorf("a small one gets %d, %v", status, err)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	await(http.StatusOK, func() {})
}
