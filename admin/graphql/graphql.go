// Package graphql is the GraphQL API of the admin plane. It says the same as the REST API, by
// the same rules.
//
// Two parsers read a document. gqlparser reads it first, to bound it and to find out whether it
// is about system keys. graph-gophers executes it. FuzzDocument holds that they agree.
//
// With graphql_passthrough another server has the same path. A document without a field of ours
// goes to that server, unchanged. So the look at a document must be strict: one that the other
// server reads in another way must not slip past. It also comes before the caller is known,
// since callers of the other server may be unknown here. body.go and document.go bound what it
// costs.
package graphql

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"

	"github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

//go:embed schema.graphql
var sdl []byte

// The bounds and names of the endpoint. maxBody is larger than that of the REST API: a document
// of another server, which is handed on, has to fit.
const (
	// maxBody bounds the body of a GraphQL request, in bytes.
	maxBody = 1 << 20
	// mediaGraphQL is the media type of the GraphQL over HTTP specification.
	mediaGraphQL = "application/graphql-response+json"
	mediaSDL     = "application/graphql"
)

// Endpoint takes GraphQL documents. It is a surface of the admin plane, and safe for concurrent
// use.
type Endpoint struct {
	config admin.Config
	schema *graphql.Schema
	limits *bodyLimits
	// documents and sdl are its paths.
	documents, sdl *admin.Route
}

// New makes an endpoint. It panics if the schema does not fit the resolvers, as both are part of
// the program.
func New(config admin.Config) *Endpoint {
	e := &Endpoint{config: config, limits: newBodyLimits()}
	// MaxDepth and MaxSelections are those of the look at the document. The library holds them
	// once more, in case the two parsers ever differ.
	e.schema = graphql.MustParseSchema(string(sdl), &resolvers{},
		graphql.UseFieldResolvers(), graphql.MaxDepth(maxDepth), graphql.MaxSelections(maxSelections),
		// A document is bounded by its body, and by the look at it before.
		graphql.MaxQueryLength(maxBody), graphql.MaxParallelism(2), graphql.Logger(panics{config.Logger}), graphql.PanicHandler(panics{}))
	e.documents = &admin.Route{
		Calls: map[string]admin.Call{http.MethodPost: e.post},
		Only:  "a document is sent by POST", Produces: []string{admin.MediaJSON, mediaGraphQL},
	}
	if config.GraphQLPassthrough {
		e.documents.Calls[http.MethodOptions] = preflight
	}
	// The schema is public, and introspection needs a caller who is known.
	show := admin.ServeText(sdl, mediaSDL)
	e.sdl = &admin.Route{
		Calls: map[string]admin.Call{http.MethodGet: show, http.MethodHead: show},
		Only:  "the GraphQL schema can be read",
	}
	return e
}

// Route implements [admin.Surface]. A document names its key itself, so no path has an id.
func (e *Endpoint) Route(escaped string) (*admin.Route, store.ID, bool) {
	switch escaped {
	case admin.GraphQLPath:
		return e.documents, store.ID{}, true
	case admin.SchemaPath:
		return e.sdl, store.ID{}, true
	}
	return nil, store.ID{}, false
}

// Fail implements [admin.Surface]. The body has the error twice: as the REST API shows
// it, and as a client of GraphQL expects it.
//
// It is for an error of the whole request. An error of a field is in an answer with status 200.
func (e *Endpoint) Fail(w http.ResponseWriter, _ *http.Request, x *admin.Exchange, refusal *gate.Refusal) bool {
	if x.Route != e.documents {
		return false
	}
	body := refusal.Body(x.Request.ID)
	body.Errors = []any{errorView{body.Error.Message, extensions(refusal, x.Request.ID)}}
	admin.Refuse(w, refusal, body)
	return true
}

// preflight hands on the question that a browser asks before it sends a document to
// another server (https://fetch.spec.whatwg.org/#cors-preflight-fetch), and nothing
// else.
//
// The other server decides about its own documents. For ours its answer changes nothing:
// SameSite refuses them.
func preflight(w http.ResponseWriter, r *http.Request, x *admin.Exchange) error {
	if r.Header.Get("Origin") == "" || r.Header.Get("Access-Control-Request-Method") == "" || r.ContentLength != 0 || r.URL.RawQuery != "" {
		return admin.BadRequest("OPTIONS is for what a browser asks before it sends a document")
	}
	return x.HandOn(w, r)
}

// request is the body of a request (GraphQL over HTTP, "Request Parameters"). Variables and
// extensions are only checked to be objects here. Variables are decoded when the document is
// executed, so that an anonymous client cannot make the server decode them. Nothing reads the
// extensions: a document must be in the body, and not be named by a hash in them.
type request struct {
	Query         string   `json:"query"`
	OperationName string   `json:"operationName"`
	Variables     struct{} `json:"variables"`
	Extensions    struct{} `json:"extensions"`
}

// post answers a document whose root fields are ours. With graphql_passthrough it hands on a
// document that has none of them. It looks at the document before it identifies the caller,
// since another server may serve callers that are unknown here. Without it the caller comes
// first: a body of somebody who is unknown is not even read.
func (e *Endpoint) post(w http.ResponseWriter, r *http.Request, x *admin.Exchange) error {
	if r.URL.RawQuery != "" {
		// Servers differ in whether the URL or the body counts.
		return admin.BadRequest("the URL has no parameters: the document is in the body")
	}
	// Without passthrough every document is for us, so a stranger is refused here.
	passthrough := e.config.GraphQLPassthrough
	if !passthrough {
		if err := x.Identify(r); err != nil {
			return err
		}
	}
	limited := &limitedBody{ReadCloser: r.Body, limits: e.limits}
	defer limited.release()
	r.Body = limited
	body, err := admin.ReadJSON(w, r, maxBody)
	if err != nil {
		return err
	}
	var request request
	var document *document
	// To parse costs some times the size of the body, so it waits for a place.
	err = e.limits.parse(r.Context(), func() (err error) {
		document, err = request.read(body)
		return err
	})
	if err != nil {
		return err
	}
	// A document with introspection alone goes on too. Our schema is under [admin.SchemaPath].
	if passthrough && document.ours == 0 {
		// Hand on what was read. A body of chunks has a known length by now.
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength, r.TransferEncoding = int64(len(body)), nil
		return x.HandOn(w, r)
	}
	if passthrough && document.others > 0 { // neither server can answer all of it
		return &gate.Refusal{
			Status: http.StatusBadRequest, Code: "mixed_document",
			Message: fmt.Sprintf("fields about system keys are answered apart from others: send %.100q in a document of its own", document.other),
		}
	}
	if passthrough {
		if err := x.Identify(r); err != nil {
			return err
		}
	}
	return e.execute(w, r, x, &request, body)
}

// read decodes a body, and analyses the document in it. The body must come from
// [admin.ReadJSON]. The error is a refusal.
func (q *request) read(body []byte) (*document, error) {
	if err := admin.Decode(body, q, "query", "operationName", "variables", "extensions"); err != nil {
		return nil, err
	}
	if strings.TrimSpace(q.Query) == "" {
		return nil, admin.BadRequest("query is required: a document that is named but not sent cannot be looked at")
	}
	return analyse(q.Query)
}

// execute answers a document that is ours. The body has passed [request.read]. An error of a
// field is part of the answer, with status 200 (GraphQL over HTTP, "Status Codes"). A document
// that was not executed has no data and gets 400.
func (e *Endpoint) execute(w http.ResponseWriter, r *http.Request, x *admin.Exchange, request *request, body []byte) error {
	var values struct {
		Variables map[string]any `json:"variables"`
	}
	if err := json.Unmarshal(body, &values); err != nil {
		return admin.BadRequest("malformed body: " + admin.Describe(err)) // it was decoded before
	}
	ctx := context.WithValue(r.Context(), callKey{}, &call{r: r, x: x})
	response, err := exec(ctx, e.schema, request, values.Variables)
	if err != nil {
		return err
	}
	// The errors of fields have their extensions. Those of the library have none yet.
	for _, e := range response.Errors {
		complete(e, x.Request.ID)
	}
	status := http.StatusOK
	if response.Data == nil { // it was not executed
		status = http.StatusBadRequest
	}
	// The client was asked in Identify whether it accepts one of them.
	mediaType, _ := x.Route.Preferred(r)
	w.Header().Set("Content-Type", mediaType)
	admin.WriteJSON(w, status, response)
	return nil
}

// exec executes a document. The library's parser panics over some malformed strings,
// such as "\555". analyse is not known to accept such a document. If it does, the
// document is refused as malformed.
//
// The panic comes before any resolver runs. One of a resolver is caught by the library: see
// [panics].
func exec(ctx context.Context, schema *graphql.Schema, request *request, variables map[string]any) (response *graphql.Response, err error) {
	defer func() {
		if recover() != nil {
			response, err = nil, admin.BadRequest("malformed document: a string in it cannot be read")
		}
	}()
	return schema.Exec(ctx, request.Query, request.OperationName, variables), nil
}

// complete gives an error of the library the same extensions as our own errors have. A client
// can go by the code, whoever has refused.
func complete(e *gqlerrors.QueryError, requestID string) {
	e.Message = token.Redact(e.Message) // it may repeat what the client has sent
	if e.Extensions == nil {
		refusal := &gate.Refusal{Code: "invalid_document", Status: http.StatusBadRequest}
		if e.Path != nil { // it has got so far as to a field
			refusal = &gate.Refusal{Code: "internal", Status: http.StatusInternalServerError}
		}
		e.Extensions = extensions(refusal, requestID)
	}
	if e.Rule != "" {
		e.Extensions["rule"] = e.Rule
	}
}

// errorView is an error as GraphQL shows it (GraphQL specification, "Errors").
type errorView struct {
	Message    string         `json:"message"`
	Extensions map[string]any `json:"extensions"`
}

// extensions are what a client of GraphQL learns of a refusal beside its message. An answer has
// one status and one set of header fields, and may have several errors. So what REST says there
// is here.
func extensions(refusal *gate.Refusal, requestID string) map[string]any {
	extensions := map[string]any{"code": refusal.Code, "status": refusal.Status, "request_id": requestID}
	if len(refusal.Fields) > 0 {
		extensions["fields"] = maps.Clone(refusal.Fields)
	}
	if after := refusal.Header.Get("Retry-After"); after != "" {
		extensions["retry_after"] = after
	}
	return extensions
}

// panics is what the library calls when a resolver has panicked. The panic's value may
// hold a secret, so it is neither logged nor shown.
type panics struct{ logger *slog.Logger }

// LogPanic implements the library's logger.
func (p panics) LogPanic(ctx context.Context, _ any) {
	p.logger.ErrorContext(ctx, "a GraphQL call panicked")
}

// MakePanicError implements the library's panic handler.
func (panics) MakePanicError(context.Context, any) *gqlerrors.QueryError {
	return &gqlerrors.QueryError{Message: "an internal error"}
}
