package admin

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Config is what a [Handler] needs. The functions and Logger are required.
type Config struct {
	// Service returns the rules on the store that is open now, or an error
	// while none is.
	Service func(ctx context.Context) (*Service, error)
	// Identities finds out who calls.
	Identities Identities
	// Describe says of a request what the audit log keeps of it, its id among it.
	Describe func(r *http.Request) store.AuditRequest
	// Denied takes the audit record of a call that its caller may not make.
	Denied func(record store.AuditRecord)
	Now    func() time.Time
	Logger *slog.Logger
	// AllowedHosts are the hosts, without port, under which the admin plane can be
	// reached. Empty for any.
	AllowedHosts []string
	// GraphQLPassthrough hands documents on that have nothing to do with system
	// keys.
	GraphQLPassthrough bool
	// Page is the path of the System page, without a slash at the end. Empty: there
	// is none.
	Page string
	// ForwardedTLS says that a proxy that is trusted has the request by TLS. Nil for
	// never.
	ForwardedTLS func(r *http.Request) bool
}

// Handler answers the REST API, the GraphQL endpoint and the System page of the
// admin plane. It is to be given the requests for which [Handler.Owns] is true. It is safe for concurrent
// use.
type Handler struct {
	config  Config
	origins *http.CrossOriginProtection
	graphQL *graphQL
	page    *page          // nil: none
	outages rate.Sometimes // limits what anybody can make the log grow by
}

// NewHandler makes a handler.
func NewHandler(config Config) *Handler {
	h := &Handler{
		config:  config,
		origins: http.NewCrossOriginProtection(),
		outages: rate.Sometimes{First: 1, Interval: time.Second},
	}
	h.graphQL = newGraphQL(h)
	if config.Page != "" {
		h.page = newPage(h, config.Page)
	}
	return h
}

// Next hands a request on.
type Next func(w http.ResponseWriter, r *http.Request) error

// Serve answers a request, or, if it is a GraphQL document that is not ours,
// hands it on. The error is that of next.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, next Next) error {
	x := &exchange{handler: h, next: next, request: h.config.Describe(r)}
	err := h.serve(w, r, x)
	if x.handedOn {
		return err
	}
	if err != nil {
		h.fail(w, r, x, err)
	}
	return nil
}

// exchange is what a call works on.
type exchange struct {
	handler *Handler
	next    Next
	request store.AuditRequest
	route   *route
	id      store.ID // of the key that the path names
	service *Service
	actor   Actor
	visit   *visit // of a browser on the System page
	// handedOn says that the request was somebody else's to answer, and that the
	// error is theirs.
	handedOn bool
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := h.checkHost(r); err != nil {
		return err
	}
	found, id, ok := h.route(r.URL.EscapedPath())
	if !ok {
		return notFound()
	}
	x.route, x.id = found, id
	call, ok := x.route.calls[r.Method]
	if !ok {
		return &gate.Refusal{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: x.route.only,
			Header: http.Header{"Allow": {strings.Join(x.route.methods(), ", ")}},
		}
	}
	if err := checkContentType(r); err != nil && (!x.route.form || !isForm(r)) {
		return err
	}
	return call(w, r, x)
}

// checkHost refuses requests that a browser was led here with, by a name that its
// owner has pointed at this address (DNS rebinding).
func (h *Handler) checkHost(r *http.Request) error {
	if len(h.config.AllowedHosts) == 0 || slices.ContainsFunc(h.config.AllowedHosts, func(allowed string) bool {
		return strings.EqualFold(allowed, hostOf(r.Host))
	}) {
		return nil
	}
	return &gate.Refusal{Status: http.StatusForbidden, Code: "host_not_allowed", Message: "the admin plane is not served under this host"}
}

// identify refuses what a page of another site makes a browser send, and what
// asks for a form that there is not, and then finds out who calls. Every call
// does so that is not open to all.
func (x *exchange) identify(r *http.Request) (err error) {
	h := x.handler
	if err := x.sameSite(r); err != nil {
		return err
	}
	if err := x.route.accepts(r); err != nil {
		return err
	}
	if x.actor, err = h.config.Identities.actor(r); err != nil {
		return err
	}
	x.actor.Request = x.request
	x.service, err = h.config.Service(r.Context())
	return err
}

// sameSite refuses what a page of another site makes a browser send.
func (x *exchange) sameSite(r *http.Request) error {
	if err := x.handler.origins.Check(r); err != nil {
		return &gate.Refusal{Status: http.StatusForbidden, Code: "cross_origin", Message: "a page of another site may not do this", Err: err}
	}
	return nil
}

// denied records that an actor was not allowed to do something.
func (x *exchange) denied(err error, p *gate.Refusal) {
	if p.Status != http.StatusForbidden || x.actor.Name == "" {
		return
	}
	key := store.Key{ID: x.actor.Key, Label: x.actor.Label}
	if key.ID == (store.ID{}) {
		key.Label = ""
	}
	x.handler.config.Denied(x.actor.record(store.AuditDenied, &key, x.handler.config.Now(), p.Status,
		map[string]any{"reason": p.Code, "message": err.Error()}))
}

// callTimeout bounds what a call asks of the store, so that one that hangs holds
// neither its connections nor the end of the process.
const callTimeout = 10 * time.Second

// bounded is the context of a call that reads.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// detached is the context of a call that writes. It goes on when the client goes
// away: a write is either not begun or carried through.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
}
