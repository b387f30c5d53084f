package graphql

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"
	"github.com/graph-gophers/graphql-go/introspection"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// documents are seeds: what two readers of GraphQL might read differently.
var documents = []string{
	"{ adminSystemKeys { total } }", "{ streams { id } }", "query A { a: adminSystemKeys { total } }", "{ __schema { types { name } } }",
	"mutation { adminDeleteSystemKey(id: \"x\") { id } }", "subscription { adminSystemKeys { total } }",
	"{ ...f } fragment f on Query { adminSystemKeys { total } }", "{ ... { adminAuditLog { total } } }", "{ ... on Query { adminAuditLog { total } } }",
	"{ a # adminSystemKeys { total }\n }", "{ a #\radminSystemKeys { total }\n }", "{ a #\u2028adminSystemKeys { total } }",
	"{ note(text: \"adminSystemKeys { total }\") }", "{ note(text: \"\"\"\\\"\"\" } adminSystemKeys { total } \"\"\") }",
	"{ note(text: \"\\\" } { adminSystemKeys { total } }", "{ a(x: \"\n\") adminSystemKeys { total } }",
	"\ufeff{ adminSystemKeys { total } }", "{ adminSystemKeys\u00a0{ total } }", "{,,adminSystemKeys,,{,total,},}",
	"{ adminSystemKeys @skip(if: true) { total } }", "{ adminSystemKeys @include(if: false) { total } a }",
	"query A { a } query B { adminSystemKeys { total } }", "query A { adminSystemKeys { total } } mutation B { adminDeleteSystemKey(id: \"x\") { id } }",
	"query A { adminSystemKeys { total } } query A { adminAuditLog { total } }", "{ a } { adminSystemKeys { total } }",
	"fragment f on Query { adminSystemKeys { total } } { ...f }", "{ ...f } fragment f on Query { ...g } fragment g on Query { adminSystemKeys { total } }",
	"{ ...f } fragment f on Mutation { adminDeleteSystemKey(id: \"x\") { id } }", "{ adminSystemKeys: streams { id } }",
	"{ streams: adminSystemKeys { total } }", "{ adminSystemKeys { total } streams { id } }", "query ($a: Int = 1) { adminSystemKeys(limit: $a) { total } }",
	"type Query { adminSystemKeys: Int } { a }", "schema { query: Q } { adminSystemKeys { total } }", "extend type Query { a: Int }", "",
	"{ admin\\u0053ystemKeys { total } }", "{ \u0430dminSystemKeys { total } }", "{", "}", "{ a(x: [[[]]]) }", "query\x00{ adminSystemKeys { total } }",
	`{ adminSystemKeys(q: "a\/b") { total } }`, `"\/" query { adminSystemKeys { total } }`, `{ adminSystemKeys(q: "\u{1F600}") { total } }`, `{ adminSystemKeys(q: "\ud83d\ude00") { total } }`,
}

// fields is a tracer that keeps which root fields are executed.
type fields struct {
	mu   sync.Mutex
	root map[string]bool
}

func (*fields) TraceQuery(ctx context.Context, _, _ string, _ map[string]any, _ map[string]*introspection.Type) (context.Context, func([]*gqlerrors.QueryError)) {
	return ctx, func([]*gqlerrors.QueryError) {}
}

func (f *fields) TraceField(ctx context.Context, _, typeName, fieldName string, _ bool, _ map[string]any) (context.Context, func(*gqlerrors.QueryError)) {
	if typeName == "Query" || typeName == "Mutation" {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.root[fieldName] = true
	}
	return ctx, func(*gqlerrors.QueryError) {}
}

type silent struct{}

func (silent) LogPanic(context.Context, any) {}

// FuzzDocument has a document looked at, as it is before it is handed on, and
// executed, as it is here, by a library with a parser of its own. They agree on
// the root fields: nothing of ours is executed that was not seen, so that a
// document with one of our fields is never taken for somebody else's.
func FuzzDocument(f *testing.F) {
	for _, d := range documents {
		f.Add(d)
	}
	tracer := &fields{}
	schema := graphql.MustParseSchema(string(sdl), &resolvers{}, graphql.UseFieldResolvers(), graphql.MaxDepth(maxDepth),
		graphql.MaxSelections(maxSelections), graphql.MaxQueryLength(maxBody), graphql.Tracer(tracer), graphql.Logger(silent{}))
	f.Fuzz(func(t *testing.T, query string) {
		if strings.ToValidUTF8(query, "") != query {
			return // such a body is refused before
		}
		document, err := analyse(query)
		tracer.root = make(map[string]bool)
		if err != nil {
			return // it is neither handed on nor executed
		}
		if document.roots() < 1 {
			t.Errorf("%q has no root fields", query)
		}
		var response *graphql.Response
		for _, name := range []string{"", "A", "B"} { // as the seeds name their operations
			response, err = exec(t.Context(), schema, &request{Query: query, OperationName: name}, nil)
			if err != nil {
				break
			}
		}
		if err != nil && len(tracer.root) > 0 {
			t.Errorf("%q executes %v, and is then malformed", query, tracer.root)
		}
		executed := 0
		for name := range tracer.root {
			if ourFields[name] {
				executed++
			} else if !strings.HasPrefix(name, "__") {
				t.Errorf("%q executes %q", query, name)
			}
		}
		if executed > document.ours {
			t.Errorf("%q executes %v, and %d fields of ours were seen", query, tracer.root, document.ours)
		}
		if document.others > 0 && len(tracer.root) > 0 {
			t.Errorf("%q executes %v beside fields of others: %+v", query, tracer.root, response)
		}
	})
}

// TestADocumentOverWhichTheLibraryPanics was found by FuzzDocument.
func TestADocumentOverWhichTheLibraryPanics(t *testing.T) {
	t.Parallel()
	schema := graphql.MustParseSchema(string(sdl), &resolvers{}, graphql.UseFieldResolvers())
	const query = `"\555\"" { adminSystemKeys { total } }`
	if _, err := analyse(query); err == nil {
		t.Error("it is looked at, and let pass")
	}
	if response, err := exec(t.Context(), schema, &request{Query: query}, nil); err == nil || response != nil {
		t.Errorf("it gives %+v, %v", response, err)
	}
}

// FuzzGraphQLBody holds that a body that is taken says the same to whoever reads
// it after us, leniently and without knowing what was checked.
func FuzzGraphQLBody(f *testing.F) {
	for _, body := range []string{
		`{"query":"{ a }"}`, `{"query":"{ a }","query":"{ b }"}`, `{"Query":"{ a }"}`, `{"query":"{ a }","variables":{"a":1,"a":2}}`, `[{"query":"{ a }"}]`,
		`{"query":"{ a }"}{"query":"{ b }"}`, `{"query":"{ a }","operationName":null,"variables":null,"extensions":{}}`, `{"query":["{ a }"]}`,
		`{"query":"\ud800"}`, `{"query":"{ a }","qu\u0065ry":"{ b }"}`, `{"query":"{ a }","variables":[{"a":1}]}`, "\ufeff{}", ` {"query" : "x" } `, `{"query":"{ a }",}`, `null`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var request request
		if err := admin.Decode(body, &request, "query", "operationName", "variables", "extensions"); err != nil {
			return
		}
		var lenient struct {
			Query         string
			OperationName string
			Variables     json.RawMessage
		}
		if err := json.Unmarshal(body, &lenient); err != nil {
			t.Fatalf("%q is taken, and is no JSON: %v", body, err)
		}
		if lenient.Query != request.Query || lenient.OperationName != request.OperationName {
			t.Errorf("%q says %q here and %q there", body, request.Query, lenient.Query)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		for name := range members {
			if name != "query" && name != "operationName" && name != "variables" && name != "extensions" {
				t.Errorf("%q is taken with the member %q", body, name)
			}
		}
	})
}

// shouting is a store that panics with a secret.
type shouting struct{ store.Store }

func (shouting) Keys(context.Context, *store.KeyQuery) (*store.KeyPage, error) {
	panic("lm_sys_secret")
}

func anybody(*http.Request, string) (store.ID, *verify.Identity, error) {
	return store.ID{}, &verify.Identity{IsSystem: true}, nil
}

func TestAPanicTellsNobodyWhy(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	config := admin.Config{
		Service:    func(context.Context) (*admin.Service, error) { return &admin.Service{Store: shouting{}}, nil },
		Identities: admin.Identities{Admit: anybody},
		Describe:   func(*http.Request) store.AuditRequest { return store.AuditRequest{ID: "r1"} },
		Denied:     func(store.AuditRecord) {},
		Logger:     slog.New(slog.NewTextHandler(&log, nil)),
	}
	h := admin.NewHandler(config, New(config))
	r := httptest.NewRequest(http.MethodPost, "/v1/gql", strings.NewReader(`{"query":"{ adminSystemKeys { total } }"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer lm_sys_x")
	w := httptest.NewRecorder()
	if err := h.Serve(w, r, nil); err != nil {
		t.Fatal(err)
	}
	answer := w.Body.String()
	if !strings.Contains(answer, `"code":"internal"`) || !strings.Contains(log.String(), "panicked") {
		t.Errorf("got %s, and logged %s", answer, log.String())
	}
	if strings.Contains(answer+log.String(), "lm_sys_") {
		t.Errorf("the panic's value is told: %s %s", answer, log.String())
	}
}

// TestTheFieldsOfTheSchemaAreOurs: what is not among them would go on to another API under
// graphql_passthrough.
func TestTheFieldsOfTheSchemaAreOurs(t *testing.T) {
	t.Parallel()
	schema := graphql.MustParseSchema(string(sdl), &resolvers{}, graphql.UseFieldResolvers()).Inspect()
	n := 0
	for _, root := range []*introspection.Type{schema.QueryType(), schema.MutationType()} {
		for _, field := range *root.Fields(&struct{ IncludeDeprecated bool }{true}) {
			if n++; !ourFields[field.Name()] {
				t.Errorf("%s would be handed on", field.Name())
			}
		}
	}
	if n != len(ourFields) {
		t.Errorf("the schema has %d fields, and %d are ours", n, len(ourFields))
	}
}
