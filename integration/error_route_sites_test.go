package integration_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"
)

func init() {
	for name, handler := range map[string]caddyhttp.MiddlewareHandler{"test_hook": hook{}, "test_recover": recoverer{}} {
		caddy.RegisterModule(handler.(caddy.Module))
		httpcaddyfile.RegisterHandlerDirective(name, func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
			h.Next()
			return handler, nil
		})
		httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.Before, "basic_auth")
	}
}

// hooked is what a test does while a request is at the handler test_hook.
var hooked atomic.Pointer[func()]

// hook is a handler that runs hooked.
type hook struct{}

func (hook) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_hook", New: func() caddy.Module { return new(hook) }}
}

func (hook) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if do := hooked.Load(); do != nil {
		(*do)()
	}
	return next.ServeHTTP(w, r)
}

// recoverer is a handler that makes an error of a panic.
type recoverer struct{}

func (recoverer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_recover", New: func() caddy.Module { return new(recoverer) }}
}

func (recoverer) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (err error) {
	defer func() {
		if recover() != nil {
			err = caddyhttp.Error(http.StatusInternalServerError, io.ErrUnexpectedEOF)
		}
	}()
	return next.ServeHTTP(w, r)
}

// protocols are the versions that every site here serves.
var protocols = []string{"http/1.1", "h2", http3.NextProtoH3}

// errorSites are sites with an upstream for requests, the first, and one for what
// has failed there, the second.
type errorSites struct {
	sites map[string]string // addresses by name
	roots *x509.CertPool
	// asked gets the name of each request that the first upstream has got, and the
	// second has got and does not answer.
	asked chan string

	mu     sync.Mutex
	second map[string]http.Header // what the second has received, by the request's name
}

// upstreams starts both. What they do is in the path of a request.
func (s *errorSites) upstreams(t *testing.T) (first, second string) {
	t.Helper()
	s.asked = make(chan string, 64)
	s.second = make(map[string]http.Header)
	serve := func(handle http.HandlerFunc) string {
		server := httptest.NewServer(handle)
		t.Cleanup(func() {
			server.CloseClientConnections()
			server.Close()
		})
		return server.Listener.Addr().String()
	}
	hang := func(r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else net/http does not see that the request is given up
		s.asked <- r.Header.Get("X-Name")
		<-r.Context().Done()
	}
	return serve(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasPrefix(r.URL.Path, "/down"):
				panic(http.ErrAbortHandler)
			case r.URL.Path == "/unwell":
				w.WriteHeader(http.StatusServiceUnavailable)
				_ = http.NewResponseController(w).Flush() // without a length
			case r.URL.Path == "/hang":
				hang(r)
			}
		}), serve(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.second[r.Header.Get("X-Name")] = r.Header.Clone()
			s.mu.Unlock()
			switch {
			case strings.HasSuffix(r.URL.Path, "/hang"):
				hang(r)
			case strings.HasSuffix(r.URL.Path, "/stream"):
				for r.Context().Err() == nil {
					_, _ = io.WriteString(w, "tick\n")
					_ = http.NewResponseController(w).Flush()
					time.Sleep(10 * time.Millisecond)
				}
			default:
				_, _ = io.WriteString(w, "from the second")
			}
		})
}

// atSecond returns what the second upstream has received of a request, and forgets
// it.
func (s *errorSites) atSecond(name string) (http.Header, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	header, ok := s.second[name]
	delete(s.second, name)
	return header, ok
}

// reported is what routes show of a request to the second upstream, beside what
// they send by themselves: who calls, and what is kept for other handlers.
const reported = `{
		header_up X-Seen "{http.auth.user.id}{http.auth.user.label}{http.auth.user.permissions}{http.auth.user.type}"
		header_up X-Vars "{http.vars.system_keys.caller}"
	}`

// startErrorSites runs a site for each body, in which FIRST and SECOND stand for the
// upstreams. Changes are made to the JSON of the configuration.
func startErrorSites(t *testing.T, options string, bodies map[string]string, changes ...func(*testing.T, []byte) []byte) *errorSites {
	t.Helper()
	certFile, keyFile, roots := newCertificate(t)
	s := &errorSites{sites: make(map[string]string), roots: roots}
	first, second := s.upstreams(t)
	caddyfile := strings.Replace(globals(options), "grace_period", "auto_https disable_redirects\n\t\tgrace_period", 1)
	for name, body := range bodies {
		s.sites[name] = freeAddr(t)
		body = strings.NewReplacer("FIRST", first, "SECOND", second+" "+reported).Replace(body)
		caddyfile += fmt.Sprintf("https://localhost:%s {\n\tbind 127.0.0.1\n\ttls %s %s\n%s\n}\n", port(t, s.sites[name]), certFile, keyFile, body)
	}
	config := adapt(t, caddyfile)
	for _, change := range changes {
		config = change(t, config)
	}
	loadJSON(t, config)
	return s
}

// errorsInside moves the error routes of each server into a subroute around its
// routes.
func errorsInside(t *testing.T, config []byte) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	for _, server := range all["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any) {
		server := server.(map[string]any)
		server["routes"] = []any{map[string]any{"handle": []any{map[string]any{
			"handler": "subroute", "routes": server["routes"], "errors": server["errors"],
		}}}}
		delete(server, "errors")
	}
	config, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// transport is a client of one protocol.
func (s *errorSites) transport(t *testing.T, protocol string) http.RoundTripper {
	t.Helper()
	config := &tls.Config{ServerName: "localhost", RootCAs: s.roots, NextProtos: []string{protocol}}
	if protocol == http3.NextProtoH3 {
		transport := &http3.Transport{TLSClientConfig: config}
		t.Cleanup(func() { _ = transport.Close() })
		return transport
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: protocol == "h2"}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// sentRequest is a request that was sent.
type sentRequest struct {
	name     string
	answered chan answer
	failed   chan error // it was not answered as a whole
}

// send sends a request. Its name is that of the site and of the protocol.
func (s *errorSites) send(t *testing.T, site, protocol, path, key string) *sentRequest {
	t.Helper()
	c := &sentRequest{name: site + ", " + protocol + path, answered: make(chan answer, 1), failed: make(chan error, 1)}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.sites[site]+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "localhost"
	request.Header.Set("X-Name", c.name)
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	transport := s.transport(t, protocol)
	go func() {
		response, err := transport.RoundTrip(request)
		if err != nil {
			c.failed <- err
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			c.failed <- fmt.Errorf("%d, %d bytes, then %w", response.StatusCode, len(body), err)
			return
		}
		c.answered <- answer{response.StatusCode, response.Header, string(body)}
	}()
	return c
}

// wait returns the answer.
func (c *sentRequest) wait(t *testing.T) answer {
	t.Helper()
	select {
	case a := <-c.answered:
		return a
	case err := <-c.failed:
		t.Errorf("%s: %v", c.name, err)
	case <-time.After(answerTimeout):
		t.Errorf("%s: no answer", c.name)
	}
	return answer{}
}

// must checks that it was answered by the handler itself.
func (c *sentRequest) must(t *testing.T, status int, code string) {
	t.Helper()
	a := c.wait(t)
	if a.status != status || !strings.Contains(a.body, `"code":"`+code+`"`) || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: got %d %v %s, want %d %s", c.name, a.status, a.header, a.body, status, code)
	}
	if (a.header.Get("Retry-After") != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("%s: Retry-After is %q", c.name, a.header.Get("Retry-After"))
	}
}

// identified lists what a request that an upstream has received says of a caller.
func identified(header http.Header) (fields []string) {
	for name, values := range header {
		if strings.HasPrefix(name, "X-Lumio-") || strings.HasPrefix(name, "X-Acme-") || name == "X-Seen" || name == "X-Vars" || name == "Authorization" {
			// A placeholder that nobody knows stays as it is.
			if value := strings.Join(values, ""); value != "" && !strings.HasPrefix(value, "{http.auth.user.id}") {
				fields = append(fields, name+": "+value)
			}
		}
	}
	return fields
}
