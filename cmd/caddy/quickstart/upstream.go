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

// demoUpstream is an API that knows nothing of keys. It answers with the identity that the proxy
// has sent. It stands for any service behind the proxy.
type demoUpstream struct {
	address string
	server  *http.Server
	done    chan error
}

// demoAnswer shows what the demo upstream has seen of a request. It never repeats a credential:
// it only says whether there was one, which there must not be.
type demoAnswer struct {
	Message     string            `json:"message"`
	Path        string            `json:"path"`
	Identity    map[string]string `json:"identity"`
	Credentials bool              `json:"credentials_seen"`
}

// startDemoUpstream serves on a free port of the loopback address. Nobody else can reach it from
// another machine, past the proxy. The caller closes it.
func startDemoUpstream(ctx context.Context) (*demoUpstream, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &demoUpstream{
		address: listener.Addr().String(),
		server:  &http.Server{Handler: http.HandlerFunc(answerIdentity), ReadHeaderTimeout: 10 * time.Second},
		done:    make(chan error, 1),
	}
	go func() { u.done <- u.server.Serve(listener) }()
	return u, nil
}

// answerIdentity answers with the identity fields of the request.
//
// It trusts these fields, as an upstream behind the proxy may: the proxy removes what a client
// sends under the prefix.
func answerIdentity(w http.ResponseWriter, r *http.Request) {
	answer := demoAnswer{
		Message:     "hello from the upstream",
		Path:        r.URL.Path,
		Identity:    make(map[string]string),
		Credentials: r.Header.Get("Authorization") != "",
	}
	// Several values of one field are shown as such: only one of them could be the proxy's.
	for name, values := range r.Header {
		if strings.HasPrefix(name, caddymodule.DefaultHeaderPrefix) {
			answer.Identity[name] = strings.Join(values, " | ")
		}
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // if it fails, the client has gone away
}

// close ends all connections at once, and waits until the server has ended.
func (u *demoUpstream) close() error {
	err := u.server.Close()
	if served := <-u.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
