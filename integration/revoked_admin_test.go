package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestARevokedAdminCannotFinishAWrite sends the head of a request, has the key
// revoked, and sends the body only then.
func TestARevokedAdminCannotFinishAWrite(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			root, rootKey, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
			if err != nil {
				t.Fatal(err)
			}
			address := run(t, b, "system_keys_admin")
			const body = `{"label":"ghost","is_system":true}`

			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "POST /v1/admin/system-keys HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
				"Content-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", address, rootKey, len(body))
			answers := bufio.NewReader(conn)
			// Asking for the body is what says that the caller was let in.
			if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
				t.Fatalf("%q %v", line, err)
			}
			if _, err := answers.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			status, _, answer := do(t, http.MethodDelete, "http://"+address+"/v1/admin/system-keys/"+root.ID.String(), "Bearer "+rootKey, nil)
			if status != http.StatusOK {
				t.Fatalf("a key that revokes itself got %d %s", status, answer)
			}
			if _, err := io.WriteString(conn, body); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			text, _ := io.ReadAll(response.Body)
			if response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), `"invalid_token"`) {
				t.Errorf("the write got %d %s", response.StatusCode, text)
			}
			page, err := keys.Store.Keys(t.Context(), &store.KeyQuery{Limit: 10, Sort: store.SortCreatedAt})
			if err != nil || page.Total != 0 {
				t.Errorf("%d keys are left: %v", page.Total, err)
			}
		})
	}
}

// TestAStoreThatHangsDoesNotHoldTheEnd pauses PostgreSQL under a write whose
// client has gone away, and stops.
func TestAStoreThatHangsDoesNotHoldTheEnd(t *testing.T) {
	b, server := onPrivatePostgres(t)
	keys := b.keys(t)
	_, rootKey, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	victim, _ := mint(t, keys, "victim")
	address := run(t, b, "system_keys_admin")
	get(t, "http://"+address+"/v1/admin/system-keys", "Bearer "+rootKey) // warms the key

	server.Pause()
	defer server.Resume()
	client := &http.Client{Timeout: 200 * time.Millisecond}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+address+"/v1/admin/system-keys/"+victim.ID.String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+rootKey)
	if response, err := client.Do(request); err == nil {
		_ = response.Body.Close()
		t.Fatalf("a paused database answered: %d", response.StatusCode)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(60 * time.Second): // many times the bounds that there are
		t.Error("the end waits for a database that hangs")
		server.Resume()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}
