package admin

import (
	"context"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Config is what a [Handler] needs. All fields are required.
type Config struct {
	// Service returns the rules on the store that is open now, or an error
	// while none is.
	Service func(ctx context.Context) (*Service, error)
	// Verifier says whose key a caller presents.
	Verifier gate.Verifier
	// RequestID names a request, in errors and in the log.
	RequestID func(r *http.Request) string
	// Announce is told who calls.
	Announce func(r *http.Request, identity *verify.Identity)
	Logger   *slog.Logger
}

// Handler answers the REST API of the admin plane. It is to be given the
// requests for which [Owns] is true. It is safe for concurrent use.
type Handler struct {
	config  Config
	outages rate.Sometimes // limits what anybody can make the log grow by
}

// NewHandler makes a handler.
func NewHandler(config Config) *Handler {
	return &Handler{config: config, outages: rate.Sometimes{First: 1, Interval: time.Second}}
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		h.fail(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	id, collection, ok := resource(r.URL.EscapedPath())
	if !ok {
		return &problem{status: http.StatusNotFound, code: "not_found", message: "there is nothing here"}
	}
	call, allow := h.call(r.Method, collection)
	if call == nil {
		return &problem{
			status: http.StatusMethodNotAllowed, code: "method_not_allowed",
			message: "a key can be listed, created, read and deleted; it is never changed",
			header:  http.Header{"Allow": {allow}},
		}
	}
	if !acceptsJSON(r.Header.Values("Accept")) {
		return &problem{
			status: http.StatusNotAcceptable, code: "not_acceptable",
			message: "the answer is application/json",
		}
	}
	actor, err := h.actor(r)
	if err != nil {
		return err
	}
	service, err := h.config.Service(r.Context())
	if err != nil {
		return err
	}
	return call(w, r, &exchange{service: service, actor: actor, id: id})
}

// exchange is what a call works on.
type exchange struct {
	service *Service
	actor   Actor
	id      store.ID
}

type call func(w http.ResponseWriter, r *http.Request, x *exchange) error

func (h *Handler) call(method string, collection bool) (c call, allow string) {
	if collection {
		switch method {
		case http.MethodGet, http.MethodHead:
			return list, ""
		case http.MethodPost:
			return create, ""
		}
		return nil, "GET, HEAD, POST"
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		return get, ""
	case http.MethodDelete:
		return revoke, ""
	}
	return nil, "GET, HEAD, DELETE"
}

// actor finds out who calls. Only system keys are known here.
func (h *Handler) actor(r *http.Request) (Actor, error) {
	key, refusal := gate.Credential(r)
	if refusal == nil && key == "" {
		refusal = gate.Anonymous()
	}
	if refusal == nil {
		identity, denied := gate.Identify(r.Context(), key, h.config.Verifier)
		if denied == nil {
			h.config.Announce(r, identity)
			return KeyActor(identity), nil
		}
		refusal = denied
	}
	return Actor{}, refused(refusal)
}

// acceptsJSON reads Accept as RFC 9110 section 12.5.1 has it, as far as one
// representation needs it.
func acceptsJSON(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if q, err := strconv.ParseFloat(parameters["q"], 64); err == nil && q == 0 {
			continue
		}
		switch mediaType {
		case "application/json", "application/*", "*/*":
			return true
		}
	}
	return false
}

// callTimeout bounds what a call asks of the store, so that one that hangs holds
// neither its connections nor the end of the process.
const callTimeout = 10 * time.Second

// bounded is the context of a call that reads.
func bounded(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), callTimeout)
}

// detached is the context of a call that writes. It goes on when the client goes
// away: a write is either not begun or carried through.
func detached(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
}
