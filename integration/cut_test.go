package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
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
