package fleet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// events is an event stream that never ends.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for n := 0; r.Context().Err() == nil; n++ {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", n); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}

// download is a file that never ends.
func download(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "1099511627776")
	block := make([]byte, 32<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// socket is a WebSocket that says something all the time.
func socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for conn.Write(r.Context(), websocket.MessageText, []byte("tick")) == nil {
		time.Sleep(20 * time.Millisecond)
	}
}

// stream is a client that has got the first of something that never ends.
type stream struct {
	name   string
	server *instance
	ended  chan end
}

// end is how and when it ended all the same.
type end struct {
	at  time.Time
	err error
}

// open starts a stream. Read takes the next of it and fails when it is over.
func open(tb testing.TB, name string, i *instance, read func() error) *stream {
	tb.Helper()
	if err := read(); err != nil {
		tb.Fatalf("%s at %s: %v", name, i.name, err)
	}
	s := &stream{name: name, server: i, ended: make(chan end, 1)}
	go func() {
		for {
			if err := read(); err != nil {
				s.ended <- end{time.Now(), err}
				return
			}
		}
	}()
	return s
}

func openEvents(tb testing.TB, i *instance, key string) *stream {
	tb.Helper()
	return openBody(tb, "event stream", "/events", i, key)
}

func openBody(tb testing.TB, name, path string, i *instance, key string) *stream {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+i.address+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		tb.Fatalf("%s at %s: %d", name, i.name, response.StatusCode)
	}
	buffer := make([]byte, 4<<10)
	return open(tb, name, i, func() error {
		_, err := response.Body.Read(buffer)
		return err
	})
}

func openSocket(tb testing.TB, i *instance, key string) *stream {
	tb.Helper()
	conn, _, err := websocket.Dial(tb.Context(), "ws://"+i.address+"/socket", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + key}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.CloseNow() })
	return open(tb, "WebSocket", i, func() error {
		_, _, err := conn.Read(context.Background())
		return err
	})
}

// openRaw sends a request by hand. Body is written again and again, if there is
// one; the first answer that comes ends it.
func openRaw(tb testing.TB, name string, i *instance, head, body string) *stream {
	tb.Helper()
	conn, err := net.Dial("tcp", i.address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, head); err != nil {
		tb.Fatal(err)
	}
	if body != "" {
		go func() {
			for {
				if _, err := io.WriteString(conn, body); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	s := &stream{name: name, server: i, ended: make(chan end, 1)}
	go func() {
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			err = errors.New(strings.TrimSpace(line))
		}
		s.ended <- end{time.Now(), err}
	}()
	return s
}

// openSilent reads nothing of a download.
func openSilent(tb testing.TB, i *instance, key string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("tcp", i.address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET /download HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", i.address, key); err != nil {
		tb.Fatal(err)
	}
	return conn
}

// wantEnd waits for the end of the stream, which has to come soon after the
// revocation was asked for.
func (s *stream) wantEnd(tb testing.TB, asked time.Time, within time.Duration) {
	tb.Helper()
	select {
	case e := <-s.ended:
		tb.Logf("%s at %s ended %v after the revocation was asked for: %v", s.name, s.server.name, e.at.Sub(asked).Round(time.Millisecond), e.err)
		if took := e.at.Sub(asked); took > within {
			tb.Errorf("%s at %s ended after %v", s.name, s.server.name, took)
		}
	case <-time.After(10 * time.Second):
		tb.Errorf("%s at %s goes on", s.name, s.server.name)
	}
}

// TestStreamsEndWhenTheirKeyIsRevokedElsewhere has streams of each kind through
// two servers, and revokes at a third.
func TestStreamsEndWhenTheirKeyIsRevokedElsewhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 10*time.Second, "")
	key, plain := f.mint("bot")
	var streams []*stream
	var silent []net.Conn
	for _, i := range f.instances[:2] {
		streams = append(streams,
			openSocket(t, i, plain), openEvents(t, i, plain), openBody(t, "download", "/download", i, plain),
			openRaw(t, "request without an answer", i, "GET /hang HTTP/1.1\r\nHost: "+i.address+"\r\nAuthorization: Bearer "+plain+"\r\n\r\n", ""),
			openRaw(t, "upload", i, "POST /upload HTTP/1.1\r\nHost: "+i.address+"\r\nContent-Length: 99999999\r\nAuthorization: Bearer "+plain+"\r\n\r\n", strings.Repeat("x", 1000)),
		)
		silent = append(silent, openSilent(t, i, plain))
	}
	other, otherPlain := f.mint("another bot")
	kept := openEvents(t, f.instances[0], otherPlain)
	time.Sleep(300 * time.Millisecond) // the silent ones' buffers fill up

	asked := time.Now()
	status, body, took := f.instances[2].revoke(key)
	t.Logf("%d after %v: %s", status, took.Round(time.Millisecond), body)
	if status != http.StatusOK || !strings.Contains(body, `"requests_cut":12`) || !strings.Contains(body, `"acknowledged":3`) {
		t.Errorf("%d %s", status, body)
	}
	for _, s := range streams {
		s.wantEnd(t, asked, promptly)
	}
	for _, conn := range silent {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the download that nobody read goes on after %d bytes: %v", n, err)
		}
	}
	// Streams of other keys go on, and the upstream is not blamed for what was cut.
	select {
	case e := <-kept.ended:
		t.Errorf("another key's stream ended: %v", e.err)
	case <-time.After(200 * time.Millisecond):
	}
	for _, i := range f.instances {
		if status, body := i.get("/ok", otherPlain); status != http.StatusOK {
			t.Errorf("%s: another key got %d %s", i.name, status, body)
		}
	}
	asked = time.Now()
	if status, body, _ := f.instances[0].revoke(other); status != http.StatusOK || !strings.Contains(body, `"requests_cut":1`) {
		t.Errorf("%d %s", status, body)
	}
	kept.wantEnd(t, asked, promptly)
}
