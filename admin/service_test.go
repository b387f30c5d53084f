package admin_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestARevokedAdminCannotFinishAWrite sends the head of a request, has the key
// revoked, and sends the body only then.
func TestARevokedAdminCannotFinishAWrite(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			root, rootKey := p.MintAdmin(t)
			address := strings.TrimPrefix(p.URL, "http://")
			const body = `{"label":"ghost","is_system":true}`

			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
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
			p.As(plane.Bearer(rootKey)).Call(t, http.MethodDelete, plane.KeysPath+"/"+root.ID.String(), "").
				Is(t, "a key that revokes itself", http.StatusOK, "revoked_at")
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
			if n := p.Total(t); n != 0 {
				t.Errorf("%d keys are left", n)
			}
		})
	}
}
