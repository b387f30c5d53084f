package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
)

// server is the Caddy that floods are measured with, in front of an
// upstream.
type server struct {
	*process
	// auth is the address of a site with the plugin. The others are those of an
	// admin plane, of a site with failure_limit, and of one that refuses everybody
	// without the plugin.
	auth, admin, limited, refusing string

	key         string
	credentials *credentials
	stop        func()
}

// startUpstream is what all sites hand requests on to.
func startUpstream() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello"))
	}))
}

// startServer has start make a server in front of a new upstream, in a new folder, on
// the processors of a list (taskset(1)), or on all.
func startServer(ctx context.Context, start func(s *server, ctx context.Context, folder, upstream, processors string) error, processors string) (*server, error) {
	folder, err := os.MkdirTemp("", "caddy-system-keys-bench-")
	if err != nil {
		return nil, err
	}
	upstream := startUpstream()
	s := &server{stop: func() {
		upstream.Close()
		_ = os.RemoveAll(folder)
	}}
	if err := start(s, ctx, folder, upstream.Listener.Addr().String(), processors); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// plain starts the Caddy with every kind of site.
func (s *server) plain(ctx context.Context, folder, upstream, processors string) (err error) {
	store := filepath.Join(folder, "keys.db")
	if s.credentials, err = newCredentials(ctx, store, filepath.Join(folder, "people.pem")); err != nil {
		return err
	}
	s.key = s.credentials.good
	proxy := "\nreverse_proxy " + upstream
	caddy := &setup{folder: folder, options: []string{"store sqlite " + store}}
	s.auth = caddy.site("system_key_auth" + proxy)
	s.admin = caddy.site(fmt.Sprintf(`system_keys_admin {
		jwt {
			key {file.%s/people.pem}
			algorithms EdDSA
			issuer https://issuer.example
			audience admin
		}
	}`, folder))
	s.limited = caddy.site("system_key_auth {\nfailure_limit 100 1m\n}" + proxy)
	s.refusing = caddy.site(`respond "no" 401`)
	return s.run(ctx, caddy, processors)
}

// run starts the Caddy, which stop ends.
func (s *server) run(ctx context.Context, caddy *setup, processors string) (err error) {
	if s.process, err = caddy.start(ctx, processors); err != nil {
		return err
	}
	cleanUp := s.stop
	s.stop = func() {
		s.process.stop()
		cleanUp()
	}
	return nil
}
