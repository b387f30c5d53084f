package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestCutsWakeEveryProtocol has requests that wait, streams and a WebSocket at a proxy, and
// revokes their key. It shows when each has ended, counted from the call that revokes.
// "Pipelining" has sent a byte of its next request, so that the server does not read from it.
func TestCutsWakeEveryProtocol(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	s := startErrorSites(t, b.options+"\n"+cheap, map[string]string{"site": `
		system_key_auth * {
			header_prefix X-Acme-
		}
		system_key_auth
		reverse_proxy /socket ` + silent(t) + `
		reverse_proxy SECOND`})
	key, plain := mint(t, keys, "bot")
	ended := make(map[string]chan time.Time)
	watch := func(name string, wait func()) {
		done := make(chan time.Time, 1)
		ended[name] = done
		go func() {
			wait()
			done <- time.Now()
		}()
	}
	var calls []*sentRequest
	for _, protocol := range protocols {
		c := s.send(t, "site", protocol, "/hang", plain)
		calls = append(calls, c)
		<-s.asked
		streaming := s.send(t, "site", protocol, "/stream", plain)
		eventually(t, "the stream is there", func() bool { _, ok := s.atSecond(streaming.name); return ok })
		watch("SSE over "+protocol, func() { t.Log(<-streaming.failed) })
	}

	tlsConfig := &tls.Config{ServerName: "localhost", RootCAs: s.roots, NextProtos: []string{"http/1.1"}}
	conn, err := tls.Dial("tcp", s.sites["site"], tlsConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "GET /hang HTTP/1.1\r\nHost: localhost\r\nX-Name: pipelining\r\nAuthorization: Bearer "+plain+"\r\n\r\nG")
	<-s.asked
	pipelining := make(chan int, 1)
	watch("pipelining", func() {
		answers := bufio.NewReader(conn)
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			pipelining <- 0
			return
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_, _ = answers.ReadByte() // the connection ends
		pipelining <- response.StatusCode
	})

	socket, _, err := websocket.Dial(t.Context(), "wss://"+s.sites["site"]+"/socket", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + plain}}, Host: "localhost",
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	watch("WebSocket", func() { _, _, _ = socket.Read(context.Background()) })

	asked := time.Now()
	report := revokeAndWait(t, keys, key).Report
	answered := time.Now()
	if report.Cut < len(protocols)*2+2 {
		t.Errorf("the report is %+v", report)
	}
	t.Logf("the revocation was answered after %v", answered.Sub(asked))
	for name, done := range ended {
		select {
		case at := <-done:
			t.Logf("%s ended after %v, %v after the answer", name, at.Sub(asked), at.Sub(answered))
		case <-time.After(patience):
			t.Errorf("%s goes on", name)
		}
	}
	for _, c := range calls {
		c.must(t, http.StatusUnauthorized, "invalid_token")
	}
	if status := <-pipelining; status != http.StatusUnauthorized {
		t.Errorf("pipelining: got %d", status)
	}
}

// TestCutsThroughANamedRouteAndAReload has requests in flight in a named route: two over one
// connection of HTTP/2 without TLS, and one over HTTP/1 on a connection that was idle before.
// Then the configuration is loaded anew, so that the old server lets them end. A revocation
// cuts the requests of its key and no other.
func TestCutsThroughANamedRouteAndAReload(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	asked := make(chan string, 3)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			asked <- r.Header.Get("X-Lumio-Key-Id")
			<-r.Context().Done()
		}
	}))
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	address := freeAddr(t)
	site := func(generation string) string {
		options := strings.Replace(globals(b.options+"\n"+cheap), "grace_period 1s", "grace_period 1m\nservers {\nprotocols h1 h2c\n}", 1)
		return options + fmt.Sprintf("&(guarded) {\nroute {\nsystem_key_auth\nreverse_proxy %s\n}\n}\nhttp://%s {\nheader X-Generation %s\ninvoke guarded\n}\n",
			upstream.Listener.Addr(), address, generation)
	}
	load(t, site("1"))

	overHTTP1, overH2C := new(http.Transport), &http.Transport{Protocols: new(http.Protocols)}
	overH2C.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(overHTTP1.CloseIdleConnections)
	t.Cleanup(overH2C.CloseIdleConnections)
	send := func(transport *http.Transport, path, plain string) chan int {
		status := make(chan int, 1)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+plain)
		go func() {
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Error(err)
				status <- 0
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			status <- response.StatusCode
		}()
		return status
	}
	first, firstPlain := mint(t, keys, "first")
	second, secondPlain := mint(t, keys, "second")
	for _, transport := range []*http.Transport{overHTTP1, overH2C} {
		if status := <-send(transport, "/", firstPlain); status != http.StatusOK {
			t.Fatalf("before: got %d", status)
		}
	}
	cut := []chan int{send(overHTTP1, "/hang", firstPlain), send(overH2C, "/hang", firstPlain)}
	stays := send(overH2C, "/hang", secondPlain)
	for range 3 {
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("not all requests are in flight")
		}
	}
	reloaded := make(chan error, 1)
	config := adapt(t, site("2"))
	go func() { reloaded <- tryLoad(t, config) }()
	eventually(t, "the new configuration serves", func() bool {
		_, header, _, err := try(t, http.MethodGet, "http://"+address+"/", "", nil)
		return err == nil && header.Get("X-Generation") == "2"
	})

	if report := revokeAndWait(t, keys, first).Report; report.Cut != len(cut) {
		t.Errorf("the report is %+v", report)
	}
	for i, status := range cut {
		if got := <-status; got != http.StatusUnauthorized {
			t.Errorf("request %d: got %d", i, got)
		}
	}
	select {
	case status := <-stays:
		t.Errorf("the request with the other key ended with %d", status)
	default:
	}
	revokeAndWait(t, keys, second)
	if status := <-stays; status != http.StatusUnauthorized {
		t.Errorf("the other key: got %d", status)
	}
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
}

// silent is an upstream whose WebSockets say nothing.
func silent(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			defer conn.CloseNow()
			_, _, _ = conn.Read(r.Context())
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}
