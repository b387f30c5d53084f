package quickstart

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/caddymodule"
)

// demoUpstream is an API that knows nothing of keys: it answers with the
// identity that the proxy told it.
type demoUpstream struct {
	address string
	server  *http.Server
	done    chan error
}

// demoAnswer is what the demo upstream has seen of a request.
type demoAnswer struct {
	Message     string            `json:"message"`
	Path        string            `json:"path"`
	Identity    map[string]string `json:"identity"`
	Credentials bool              `json:"credentials_seen"`
}

func startDemoUpstream(ctx context.Context) (*demoUpstream, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &demoUpstream{
		address: listener.Addr().String(),
		server:  &http.Server{Handler: http.HandlerFunc(tellIdentity), ReadHeaderTimeout: 10 * time.Second},
		done:    make(chan error, 1),
	}
	go func() { u.done <- u.server.Serve(listener) }()
	return u, nil
}

// tellIdentity answers with what the proxy has told of the client.
func tellIdentity(w http.ResponseWriter, r *http.Request) {
	answer := demoAnswer{
		Message:     "hello from the upstream",
		Path:        r.URL.Path,
		Identity:    make(map[string]string),
		Credentials: r.Header.Get("Authorization") != "",
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, caddymodule.DefaultHeaderPrefix) {
			answer.Identity[name] = strings.Join(values, " | ")
		}
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // the client is gone if this fails
}

func (u *demoUpstream) close() error {
	err := u.server.Close()
	if served := <-u.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
