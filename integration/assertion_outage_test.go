package integration_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

const jwksPath = "/.well-known/lumio-keys.json"

// TestAssertionsWhileTheDatabaseIsDown from the start, and later on: nothing goes on
// unsigned, and nobody is told that there are no keys.
func TestAssertionsWhileTheDatabaseIsDown(t *testing.T) {
	b, server := onPrivatePostgres(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	server.Stop()

	address := testenv.FreeAddress(t)
	service := newService(t, address)
	load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, "", "")))
	call := func(path string) (int, http.Header, string) { return get(t, "http://"+address+path, "Bearer "+plain) }
	for _, path := range []string{jwksPath, "/bots/17"} {
		if status, header, body := call(path); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("%s from the start: %d %v %s", path, status, header, body)
		}
	}
	if service.last != nil {
		t.Errorf("%s has reached the service", service.last.URL)
	}

	server.Start()
	eventually := time.Now().Add(20 * time.Second)
	for {
		status, _, body := call("/bots/17")
		if status == http.StatusOK {
			break
		}
		if status != http.StatusServiceUnavailable || time.Now().After(eventually) {
			t.Fatalf("with the database: %d %s", status, body)
		}
		time.Sleep(50 * time.Millisecond)
	}
	_, _, before := call(jwksPath)

	// The key, its signing key and the set are known, so all goes on, under the lease.
	server.Stop()
	time.Sleep(2 * time.Second)
	if status, _, body := call("/bots/17"); status != http.StatusOK {
		t.Errorf("a key that is known: %d %s", status, body)
	}
	status, header, after := call(jwksPath)
	age, err := strconv.Atoi(header.Get("Age"))
	if status != http.StatusOK || after != before || err != nil || age < 1 || !strings.Contains(before, `"kid"`) {
		t.Errorf("the keys: %d %v %s, before %s", status, header, after, before)
	}
	server.Start()
}
