package integration_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

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
