package cut_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is when a test gives up; nothing takes nearly as long.
const patience = 20 * time.Second

// site is a server whose requests can be cut, in front of a handler.
type site struct {
	*httptest.Server
	// exchanges are those that have begun.
	exchanges chan *cut.Exchange
	// ended are how they have ended.
	ended chan cut.Outcome
	alive func() error
}

// protocol is how a site is served.
type protocol string

const (
	// http1 has one context for each connection, as in Caddy.
	http1 protocol = "http/1.1"
	// http1Alone has one for each request, as on servers without our hooks.
	http1Alone protocol = "http/1.1 without hooks"
	// http1Cancelable has contexts of connections that end with the server.
	http1Cancelable protocol = "http/1.1 below a context"
	h2              protocol = "h2"
	h2c             protocol = "h2c"
)

// hook gives the server what Caddy's has, unless it is to be without.
func (p protocol) hook(server *http.Server) {
	if p != http1Alone {
		connections := new(cut.Connections)
		server.ConnContext, server.ConnState = connections.Context, connections.State
	}
}

// serve starts a site. It answers a request that was cut before anything was
// sent with 401, and aborts one that was cut later.
func serve(tb testing.TB, p protocol, next http.Handler) *site {
	tb.Helper()
	s := &site{exchanges: make(chan *cut.Exchange, 1), ended: make(chan cut.Outcome, 1)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(r.Context()) // a copy, as in Caddy
		w.Header().Set("Server", "site")
		x := cut.New(w, r)
		s.exchanges <- x
		defer func() {
			outcome := x.Finish()
			s.ended <- outcome
			switch {
			case outcome.Cause == nil:
			case outcome.Sent:
				panic(http.ErrAbortHandler)
			default:
				_ = recover()
				http.Error(w, outcome.Cause.Error(), http.StatusUnauthorized)
			}
		}()
		next.ServeHTTP(x.Wrap(s.alive))
	}))
	p.hook(s.Config)
	switch p {
	case http1Cancelable:
		ctx, cancel := context.WithCancel(context.Background())
		tb.Cleanup(cancel)
		s.Config.BaseContext = func(net.Listener) context.Context { return ctx }
		s.Start()
	case h2:
		s.EnableHTTP2 = true
		s.StartTLS()
	case h2c:
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	tb.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// outcome waits for the end of a request.
func (s *site) outcome(tb testing.TB) cut.Outcome {
	tb.Helper()
	select {
	case o := <-s.ended:
		return o
	case <-time.After(patience):
		tb.Fatal("the handler does not end")
		return cut.Outcome{}
	}
}

func (s *site) client(tb testing.TB) *http.Client {
	tb.Helper()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: s.EnableHTTP2,
		Protocols:         s.Config.Protocols,
	}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// proxy is a reverse proxy to an upstream, and the faults that it saw.
type proxy struct {
	*httputil.ReverseProxy
	mu     sync.Mutex
	faults []error
}

func proxyTo(tb testing.TB, upstream http.Handler) *proxy {
	tb.Helper()
	server := httptest.NewServer(upstream)
	target, err := url.Parse(server.URL)
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	p := &proxy{ReverseProxy: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
	}}
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		p.mu.Lock()
		p.faults = append(p.faults, err)
		p.mu.Unlock()
		w.WriteHeader(http.StatusBadGateway)
	}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	return p
}

// onlyCanceled checks that no fault looks like one of the upstream.
func (p *proxy) onlyCanceled(tb testing.TB, cause error) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range p.faults {
		if !errors.Is(err, cause) {
			tb.Errorf("the proxy saw %v", err)
		}
	}
}

// protocols runs a test on each.
func protocols(t *testing.T, test func(t *testing.T, p protocol)) {
	t.Helper()
	for _, p := range []protocol{http1, http1Alone, http1Cancelable, h2, h2c} {
		t.Run(string(p), func(t *testing.T) { test(t, p) })
	}
}

// over1 reports whether it is HTTP/1.
func (p protocol) over1() bool { return p != h2 && p != h2c }
