package admin

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

//go:embed schema.graphql
var sdl []byte

const (
	// maxGraphQLBody bounds the body of a GraphQL request, in bytes.
	maxGraphQLBody = 1 << 20
	// mediaGraphQL is the media type of the GraphQL over HTTP specification.
	mediaGraphQL = "application/graphql-response+json"
	mediaSDL     = "application/graphql"
)

// graphQL is the endpoint for GraphQL documents.
type graphQL struct {
	handler *Handler
	schema  *graphql.Schema
	route   *route
	crowd   *crowd
}

func newGraphQL(h *Handler) *graphQL {
	g := &graphQL{handler: h, crowd: newCrowd()}
	g.schema = graphql.MustParseSchema(string(sdl), &resolvers{},
		graphql.UseFieldResolvers(), graphql.MaxDepth(maxDepth), graphql.MaxSelections(maxSelections),
		// A document is bounded by its body, and by what was looked at before.
		graphql.MaxQueryLength(maxGraphQLBody), graphql.MaxParallelism(2), graphql.Logger(panics{h}), graphql.PanicHandler(panics{h}))
	g.route = &route{
		calls: map[string]call{http.MethodPost: g.post},
		only:  "a document is sent by POST", produces: []string{mediaJSON, mediaGraphQL},
	}
	if h.config.GraphQLPassthrough {
		g.route.calls[http.MethodOptions] = preflight
	}
	return g
}

// preflight hands on what a browser asks before it sends a document to somebody
// else (https://fetch.spec.whatwg.org/#cors-preflight-fetch), and nothing beside.
func preflight(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if r.Header.Get("Origin") == "" || r.Header.Get("Access-Control-Request-Method") == "" || r.ContentLength != 0 || r.URL.RawQuery != "" {
		return badRequest("OPTIONS is for what a browser asks before it sends a document")
	}
	return handOn(w, r, x)
}

func handOn(w http.ResponseWriter, r *http.Request, x *exchange) error {
	x.handedOn = true
	return x.next(w, r)
}

// graphQLRequest is the body of a request (GraphQL over HTTP, section 5.4). Of
// variables and extensions it is known that they are objects: their values are
// decoded when the document is executed, and not for whoever may send one.
type graphQLRequest struct {
	Query         string   `json:"query"`
	OperationName string   `json:"operationName"`
	Variables     struct{} `json:"variables"`
	Extensions    struct{} `json:"extensions"`
}

// post answers a document whose root fields are ours, and hands on one that has
// none of them, if that is configured. The document is looked at before the caller
// is then: who asks somebody else for something need not be known here.
func (g *graphQL) post(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if r.URL.RawQuery != "" {
		// Servers differ in whether these or those of the body count.
		return badRequest("the URL has no parameters: the document is in the body")
	}
	passthrough := g.handler.config.GraphQLPassthrough
	if !passthrough {
		if err := x.identify(r); err != nil {
			return err
		}
	}
	counted := &counted{ReadCloser: r.Body, crowd: g.crowd}
	defer counted.leave()
	r.Body = counted
	body, err := readJSON(w, r, maxGraphQLBody)
	if err != nil {
		return err
	}
	var request graphQLRequest
	var document *document
	err = g.crowd.look(r.Context(), func() (err error) {
		document, err = request.read(body)
		return err
	})
	if err != nil {
		return err
	}
	if passthrough && document.ours == 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength, r.TransferEncoding = int64(len(body)), nil
		return handOn(w, r, x)
	}
	if passthrough && document.others > 0 {
		return &gate.Refusal{
			Status: http.StatusBadRequest, Code: "mixed_document",
			Message: fmt.Sprintf("fields about system keys are answered apart from others: send %.100q in a document of its own", document.other),
		}
	}
	if passthrough {
		if err := x.identify(r); err != nil {
			return err
		}
	}
	return g.execute(w, r, x, &request, body)
}

// read decodes a body, and looks at the document in it.
func (q *graphQLRequest) read(body []byte) (*document, error) {
	if err := decode(body, q, "query", "operationName", "variables", "extensions"); err != nil {
		return nil, err
	}
	if strings.TrimSpace(q.Query) == "" {
		return nil, badRequest("query is required: a document that is named but not sent cannot be looked at")
	}
	return analyse(q.Query)
}

func (g *graphQL) execute(w http.ResponseWriter, r *http.Request, x *exchange, request *graphQLRequest, body []byte) error {
	var values struct {
		Variables map[string]any `json:"variables"`
	}
	if err := json.Unmarshal(body, &values); err != nil {
		return badRequest("malformed body: " + describe(err)) // it was decoded before
	}
	ctx := context.WithValue(r.Context(), resolving{}, &graphQLCall{r: r, x: x})
	response, err := exec(ctx, g.schema, request, values.Variables)
	if err != nil {
		return err
	}
	for _, e := range response.Errors {
		g.complete(e, x.request.ID)
	}
	status := http.StatusOK
	if response.Data == nil { // it was not executed
		status = http.StatusBadRequest
	}
	mediaType, _ := x.route.preferred(r)
	w.Header().Set("Content-Type", mediaType)
	writeJSON(w, status, response)
	return nil
}

// exec has the library execute a document. Its parser panics over some malformed
// strings, such as "\555". None is known that the look at the document lets pass; if
// there is one it is refused like any other malformed document.
func exec(ctx context.Context, schema *graphql.Schema, request *graphQLRequest, variables map[string]any) (response *graphql.Response, err error) {
	defer func() {
		if recover() != nil {
			response, err = nil, badRequest("malformed document: a string in it cannot be read")
		}
	}()
	return schema.Exec(ctx, request.Query, request.OperationName, variables), nil
}

// complete gives an error of the library, about the document, what the errors of
// our own have.
func (*graphQL) complete(e *gqlerrors.QueryError, requestID string) {
	e.Message = token.Redact(e.Message) // it may repeat what the client has sent
	if e.Extensions == nil {
		p := &gate.Refusal{Code: "invalid_document", Status: http.StatusBadRequest}
		if e.Path != nil { // it has got so far as to a field
			p = &gate.Refusal{Code: "internal", Status: http.StatusInternalServerError}
		}
		e.Extensions = extensions(p, requestID)
	}
	if e.Rule != "" {
		e.Extensions["rule"] = e.Rule
	}
}

// graphQLError is an error as GraphQL shows it.
type graphQLError struct {
	Message    string         `json:"message"`
	Extensions map[string]any `json:"extensions"`
}

func extensions(p *gate.Refusal, requestID string) map[string]any {
	extensions := map[string]any{"code": p.Code, "status": p.Status, "request_id": requestID}
	if len(p.Fields) > 0 {
		extensions["fields"] = maps.Clone(p.Fields)
	}
	if after := p.Header.Get("Retry-After"); after != "" {
		extensions["retry_after"] = after
	}
	return extensions
}

// panics is where the library says that a resolver has panicked. The value may
// hold anything, and is neither logged nor shown.
type panics struct{ handler *Handler }

// LogPanic implements the library's logger.
func (p panics) LogPanic(ctx context.Context, _ any) {
	p.handler.config.Logger.ErrorContext(ctx, "a GraphQL call panicked")
}

// MakePanicError implements the library's panic handler.
func (panics) MakePanicError(context.Context, any) *gqlerrors.QueryError {
	return &gqlerrors.QueryError{Message: "an internal error"}
}
