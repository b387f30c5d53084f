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

// Config is what a [Handler] needs. The functions and Logger are required, but for ForwardedTLS.
// All functions are called by many requests at the same time.
type Config struct {
	// Service returns the rules on the store that is open now, or an error
	// while none is.
	Service func(ctx context.Context) (*Service, error)
	// Identities finds out who calls.
	Identities Identities
	// Describe returns what the audit log keeps of a request, with the request's id.
	Describe func(r *http.Request) store.AuditRequest
	// Denied takes the audit record of a call that its caller may not make.
	Denied func(record store.AuditRecord)
	Now    func() time.Time
	Logger *slog.Logger
	// AllowedHosts are the hosts, without port, under which the admin plane can be
	// reached. Empty for any.
	AllowedHosts []string
	// GraphQLPassthrough hands documents on that have no field about system keys.
	GraphQLPassthrough bool
	// Page is the path of the System page, without a slash at the end. It is empty if
	// there is no page.
	Page string
	// Base is the path below which a request comes in for every path of the admin plane, the
	// page's too. Mount is what a client has in front of them: Base, and what was taken away
	// before. Both are without a slash at the end, and empty for the root.
	Base, Mount string
	// ForwardedTLS reports whether a trusted proxy has received the request over TLS.
	// It may be nil.
	ForwardedTLS func(r *http.Request) bool
}

// Handler answers the REST API, and asks its surfaces for the other paths of the admin
// plane. Give it the requests for which [Handler.Owns] is true. It is safe for
// concurrent use.
type Handler struct {
	config   Config
	surfaces []Surface
	origins  *http.CrossOriginProtection
	outages  rate.Sometimes // bounds what anybody can add to the log
}

// Surface is a part of the admin plane beside the REST API: GraphQL, or the page. Surfaces are
// asked in the order in which [NewHandler] got them. Their methods must be safe for concurrent
// use.
type Surface interface {
	// Route finds what an escaped path names. The path must be spelled exactly.
	Route(escaped string) (*Route, store.ID, bool)
	// Fail answers with a refusal, if the surface has a form of its own for it. It
	// reports whether it has answered. The route is nil if none was found.
	Fail(w http.ResponseWriter, r *http.Request, x *Exchange, refusal *gate.Refusal) bool
}

// NewHandler makes a handler. It does no input or output.
func NewHandler(config Config, surfaces ...Surface) *Handler {
	return &Handler{
		config:   config,
		surfaces: surfaces,
		origins:  http.NewCrossOriginProtection(),
		outages:  rate.Sometimes{First: 1, Interval: time.Second},
	}
}

// Next hands a request on to what comes behind the admin plane.
type Next func(w http.ResponseWriter, r *http.Request) error

// Serve answers a request. It hands a GraphQL document on that is not about system
// keys; only then is there an error, that of next.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, next Next) error {
	x := &Exchange{handler: h, next: next, Request: h.config.Describe(r)}
	err := h.serve(w, r, x)
	if x.handedOn {
		return err
	}
	if err != nil {
		h.fail(w, r, x, err)
	}
	return nil
}

// Exchange is a request and what is known about it so far. It belongs to one request, and its
// fields are set one after the other: Request, Route and ID, then Service and Actor.
type Exchange struct {
	Request store.AuditRequest
	Route   *Route
	ID      store.ID // of the key that the path names
	// Service and Actor are set by [Exchange.Identify].
	Service *Service
	Actor   Actor

	handler *Handler
	next    Next
	// handedOn says that the next handler has answered. Its error is not ours.
	handedOn bool
}

// HandOn gives the request to the next handler. After that the admin plane writes nothing,
// whatever the error.
func (x *Exchange) HandOn(w http.ResponseWriter, r *http.Request) error {
	x.handedOn = true
	return x.next(w, r)
}

// serve answers a request, or returns an error for the answer. The checks that need no store
// come first: host, path, method, media type. They are the same for everybody, so they tell a
// stranger nothing.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	if err := h.checkHost(r); err != nil {
		return err
	}
	escaped, below := strings.CutPrefix(r.URL.EscapedPath(), h.config.Base)
	found, id, ok := h.route(escaped)
	if !below || !ok {
		return NotFound()
	}
	x.Route, x.ID = found, id
	call, ok := x.Route.Calls[r.Method]
	if !ok {
		return &gate.Refusal{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: x.Route.Only,
			Header: http.Header{"Allow": {strings.Join(x.Route.methods(), ", ")}},
		}
	}
	if err := checkContentType(r); err != nil && (!x.Route.Form || !IsForm(r)) && (!x.Route.NoBody || !hasNoBody(r)) {
		return err
	}
	return call(w, r, x)
}

// checkHost refuses a request under another host name. The owner of that name may have
// pointed it at this address, to reach the admin plane from a browser (DNS rebinding).
//
// The port does not count: it is the one of this server, whatever the client says.
func (h *Handler) checkHost(r *http.Request) error {
	if len(h.config.AllowedHosts) == 0 || slices.ContainsFunc(h.config.AllowedHosts, func(allowed string) bool {
		return strings.EqualFold(allowed, hostOf(r.Host))
	}) {
		return nil
	}
	return &gate.Refusal{Status: http.StatusForbidden, Code: "host_not_allowed", Message: "the admin plane is not served under this host"}
}

// Identify finds out who calls. First it refuses what a page of another site makes a browser
// send, and what asks for a media type that the answer does not have. Every call does this,
// except those that are open to all. It sets Actor and Service. An anonymous caller gets 401
// before the store is asked for anything of the call.
func (x *Exchange) Identify(r *http.Request) (err error) {
	h := x.handler
	if err := x.SameSite(r); err != nil {
		return err
	}
	if err := x.Route.Accepts(r); err != nil {
		return err
	}
	if x.Actor, err = h.config.Identities.actor(r); err != nil {
		return err
	}
	x.Actor.Request = x.Request
	x.Service, err = h.config.Service(r.Context())
	return err
}

// SameSite refuses what a page of another site makes a browser send. It goes by Sec-Fetch-Site,
// and by Origin where a browser does not send that. Programs send neither, and are let through.
// Safe methods are let through too: they change nothing.
func (x *Exchange) SameSite(r *http.Request) error {
	if err := x.handler.origins.Check(r); err != nil {
		return &gate.Refusal{Status: http.StatusForbidden, Code: "cross_origin", Message: "a page of another site may not do this", Err: err}
	}
	return nil
}

// denied records that an actor was not allowed to do something. Only 403 counts, and only if it
// is known who has called. A key that is refused is recorded by [Identities.Refused].
func (x *Exchange) denied(err error, refusal *gate.Refusal) {
	if refusal.Status != http.StatusForbidden || x.Actor.Name == "" {
		return
	}
	key := store.Key{ID: x.Actor.Key, Label: x.Actor.Label}
	if key.ID == (store.ID{}) {
		key.Label = ""
	}
	x.handler.config.Denied(x.Actor.record(store.AuditDenied, &key, x.handler.config.Now(), refusal.Status,
		map[string]any{"reason": refusal.Code, "message": err.Error()}))
}

// callTimeout bounds what a call asks of the store. A call that hangs keeps neither its
// connection nor the process. Waits for a revocation are not bounded by it: they take as long as
// a lease.
const callTimeout = 10 * time.Second

// Bounded makes the context of a call that reads. It ends when the client goes away.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// Detached makes the context of a call that writes. It does not end when the client goes away: a
// write that has begun is finished. Otherwise a client that gives up would decide whether a key
// is deleted.
func Detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
}
