package upstream_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// pasted is a server of a page of docs/upstream, under a heading of it.
type pasted struct {
	page, heading string
	file          string
	// command runs it. $address is where it listens, and $port a part of that.
	command []string
	// more is put behind it.
	more string
}

// TestServersOfTheDocuments pastes each server of the pages for Node and Python, runs it, and
// calls it as the proxy does.
func TestServersOfTheDocuments(t *testing.T) {
	t.Parallel()
	packages := testenv.NodePackages(t, "testdata/node", "upstream")
	python := pythonWith(t, "cryptography, fastapi, django, uvicorn, gunicorn")
	node := []string{"node", "service.mjs"}
	gunicorn := []string{python, "-m", "gunicorn", "--bind", "$address", "service:app"}
	uvicorn := []string{python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "$port", "service:app"}
	for _, p := range []pasted{
		{page: "node", heading: "node:http", file: "service.mjs", command: node},
		{page: "node", heading: "Express", file: "service.mjs", command: node},
		{page: "node", heading: "Fastify", file: "service.mjs", command: node},
		{page: "python", heading: "WSGI", file: "service.py", command: gunicorn},
		{page: "python", heading: "ASGI", file: "service.py", command: uvicorn},
		{page: "python", heading: "FastAPI", file: "service.py", command: uvicorn},
		{page: "python", heading: "Django", file: "service.py", command: gunicorn},
	} {
		t.Run(p.heading, func(t *testing.T) {
			t.Parallel()
			keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(makeVectors().JWKS)
			}))
			t.Cleanup(keys.Close)
			service := start(t, p, packages, keys.URL)

			header := service.call(t, http.StatusOK, "hello Bot", signerOf("one"), nil)
			if header.Get("Vary") != "X-Lumio-Key-Id" || header.Get("Cache-Control") != "private" || header.Get("X-Lumio-Required") != "bots:read" {
				t.Errorf("the header has %v", header)
			}
			header = service.call(t, http.StatusForbidden, "", signerOf("one"), object{"permissions": []string{"bots:write"}})
			if header.Get("X-Lumio-Required") != "bots:read" {
				t.Errorf("the header of a 403 has %v", header)
			}
			service.call(t, http.StatusUnauthorized, "", signerOf("one"), object{"htu": keys.URL + "/others"})
			service.call(t, http.StatusUnauthorized, "", signer{}, nil)

			keys.Close()
			header = service.call(t, http.StatusServiceUnavailable, "", signerOf("stranger"), nil)
			if header.Get("Retry-After") != "1" || header.Get("Cache-Control") == "private" {
				t.Errorf("the header of a 503 has %v", header)
			}
			service.says(t, "the keys at "+keys.URL)
			service.says(t, "refused") // the connection
		})
	}

	t.Run("the server of Python's library does not give the path", func(t *testing.T) {
		t.Parallel()
		service := start(t, pasted{
			page: "python", heading: "WSGI", file: "service.py", command: []string{python, "service.py"},
			more: "\nfrom wsgiref.simple_server import make_server\n\nmake_server('127.0.0.1', 8000, app).serve_forever()\n",
		}, "", "http://127.0.0.1:1")
		service.call(t, http.StatusServiceUnavailable, "", signerOf("one"), nil)
		service.says(t, "RAW_URI")
	})
}

// running is a service that was started.
type running struct {
	address, base string
	log           *locked
}

// start pastes a server into a folder of its own. The base stands in for the URL of the page.
func start(t *testing.T, p pasted, packages, base string) *running {
	t.Helper()
	page := filepath.Join("..", "docs", "upstream", p.page)
	text, err := os.ReadFile(filepath.Join(page, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)\n## " + p.heading + "\n.*?\n```(?:js|python)\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("the page has no server for %s", p.heading)
	}
	address := testenv.FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	folder := t.TempDir()
	server := strings.NewReplacer("https://api.example.com", base, "8000", port).Replace(string(block[1]) + p.more)
	err = os.WriteFile(filepath.Join(folder, p.file), []byte(server), 0o600)
	for _, name := range []string{"lumio-keys.mjs", "lumio_keys.py"} {
		if library, missing := os.ReadFile(filepath.Join(page, name)); err == nil && missing == nil {
			err = os.WriteFile(filepath.Join(folder, name), library, 0o600)
		}
	}
	if err == nil && packages != "" {
		err = os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(folder, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}

	r := &running{address: address, base: base, log: new(locked)}
	arguments := make([]string, len(p.command))
	for i, a := range p.command {
		arguments[i] = strings.NewReplacer("$address", address, "$port", port).Replace(a)
	}
	c := exec.CommandContext(t.Context(), arguments[0], arguments[1:]...)
	c.Dir, c.Stdout, c.Stderr = folder, r.log, r.log
	c.Env = append(c.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // gunicorn ends its workers then
	c.WaitDelay = 10 * time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Wait() }) // it was ended with the test's context
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not start: %v\n%s", err, r.log)
		}
	}
}

// call sends a request with an assertion of the signer, or with none if it has no id.
func (r *running) call(t *testing.T, status int, body string, by signer, changes object) http.Header {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/bots?page=2", r.address), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "api.example.com"
	if by.id != "" {
		now := time.Now().Unix()
		claims := with(vectorClaims(), object{"label": "Bot", "iat": now, "exp": now + 60, "htu": r.base + "/bots"})
		request.Header.Set("X-Lumio-Assertion", by.sign(by.header(), with(claims, changes)))
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != status || body != "" && !strings.Contains(string(content), body) {
		t.Errorf("got %d %s, want %d %s\n%s", response.StatusCode, content, status, body, r.log)
	}
	return response.Header
}

// says waits until the log has a text, in any case of letters.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(strings.ToLower(r.log.String()), strings.ToLower(text)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q: %s", text, r.log)
		}
	}
}

// locked is the log of a service that writes while a test reads.
type locked struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
