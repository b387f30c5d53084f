package graphql_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// bodies is an upstream that keeps what it was sent.
type bodies struct {
	mu    sync.Mutex
	texts []string
}

func (u *bodies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.texts = append(u.texts, r.Method+" "+string(body))
	_, _ = io.WriteString(w, "upstream")
}

// take returns what came since it was last asked.
func (u *bodies) take() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := strings.Join(u.texts, "\n")
	u.texts = nil
	return taken
}

func TestGraphQLDocuments(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("{ a ", 30) + strings.Repeat("}", 30)
	aliases := "{ "
	for i := range 11 {
		aliases += fmt.Sprintf("a%d: adminSystemKeys { total } ", i)
	}
	fields := "{ " + strings.Repeat("adminSystemKeys { total } ", 11) + "}"
	laughs := "query { ...f0 } "
	for i := range 20 {
		laughs += fmt.Sprintf("fragment f%d on Query { ...f%d ...f%d } ", i, i+1, i+1)
	}
	laughs += "fragment f20 on Query { adminSystemKeys { total } }"

	const ours, theirs = "{ adminSystemKeys { total } }", "{ streams { id } }"
	const several = "query A " + ours + ` mutation B { adminDeleteSystemKey(id: "x") { id } }`
	for _, passthrough := range []bool{false, true} {
		t.Run(fmt.Sprintf("passthrough %v", passthrough), func(t *testing.T) {
			t.Parallel()
			upstream := new(bodies)
			p := plane.New(t, plane.Options{Passthrough: passthrough, Upstream: upstream})
			p.API = nil // what an upstream answers is not in our description
			root, reader, nobody := p.ByKey(t, true), p.ByKey(t, false, "system-keys:read"), p.As(nil)

			// handed is what goes upstream, and what it gets here where nothing does.
			handed := func(c *plane.Caller, method, body string, here int, header ...string) {
				t.Helper()
				a := c.Call(t, method, admin.GraphQLPath, body, header...)
				got := upstream.take()
				if passthrough && (a.Status != http.StatusOK || got != method+" "+body) {
					t.Errorf("%.100s: got %d %s, and the upstream %q", body, a.Status, a.Body, got)
				}
				if !passthrough && (a.Status != here || got != "") {
					t.Errorf("%.100s: got %d %s, want %d; and the upstream %q", body, a.Status, a.Body, here, got)
				}
			}
			// mixed is what a document of both kinds gets.
			mixed := "invalid_document"
			if passthrough {
				mixed = "mixed_document"
			}
			handed(nobody, "POST", plane.GQL(theirs), 401)
			handed(nobody, "POST", plane.GQL("query A "+theirs+" query B "+theirs, `,"operationName":"B"`), 401)
			handed(root, "POST", plane.GQL(theirs), 400)
			handed(nobody, "POST", "{ \"query\" :\n"+plane.Quote("mutation M { stream { id } }")+", \"operationName\": \"M\" , \"variables\":{\"a\":[1.0,{\"b\":null}]}}", 401)
			handed(nobody, "POST", plane.GQL("query IntrospectionQuery { __schema { queryType { name } } }"), 401)
			handed(root, "POST", plane.GQL("{ __typename }"), 200)
			handed(nobody, "POST", plane.GQL("subscription { chat { text } }"), 403, "Origin", "https://dashboard.example", "Sec-Fetch-Site", "cross-site")
			handed(nobody, "POST", plane.GQL("{ a: adminSystemKeysX { id } adminsystemkeys }"), 401)
			handed(nobody, "POST", plane.GQL(`{ note(text: "adminSystemKeys") { id } } # adminSystemKeys`), 401)
			if passthrough {
				handed(nobody, "OPTIONS", "", 0, "Origin", "https://dashboard.example", "Access-Control-Request-Method", "POST")
				for _, c := range [][]string{{"OPTIONS", admin.GraphQLPath}, {"OPTIONS", admin.GraphQLPath + "?query={adminSystemKeys{total}}"}, {"POST", admin.GraphQLPath + "?query={adminSystemKeys{total}}"}, {"POST", admin.GraphQLPath + "?x"}} {
					if a := nobody.Call(t, c[0], c[1], plane.GQL(theirs), "Origin", "https://dashboard.example", "Access-Control-Request-Method", "POST"); a.Status != 400 || upstream.take() != "" {
						t.Errorf("%v got %d", c, a.Status)
					}
				}
			} else if a := nobody.Call(t, "OPTIONS", admin.GraphQLPath, ""); a.Status != 405 || upstream.take() != "" {
				t.Errorf("OPTIONS got %d", a.Status)
			}

			// The rest never goes upstream.
			for _, c := range []struct {
				who    *plane.Caller
				method string
				body   string
				status int
				code   string
				header []string
			}{
				{root, "POST", plane.GQL(ours), 200, "", nil},
				{root, "POST", plane.GQL("query A { a: adminSystemKeys { total } ...f } fragment f on Query { ... { adminAuditLog { total } } }"), 200, "", nil},
				{root, "POST", plane.GQL("query A { adminSystemKeys { total } __schema { queryType { name } } }"), 200, "", nil},
				{root, "POST", plane.GQL(ours, `,"variables":null,"operationName":null,"extensions":{}`), 200, "", nil},
				{reader, "POST", plane.GQL(ours), 200, "", nil},
				{nobody, "POST", plane.GQL(ours), 401, "unauthorized", nil},
				{root, "POST", plane.GQL(ours), 403, "cross_origin", []string{"Sec-Fetch-Site", "cross-site"}},
				{root, "GET", "", 405, "method_not_allowed", nil},
				{root, "PUT", plane.GQL(ours), 405, "method_not_allowed", nil},
				{root, "POST", "[" + plane.GQL(ours) + "]", 400, "invalid_request", nil},
				{root, "POST", "[" + plane.GQL(theirs) + "]", 400, "invalid_request", nil},
				{root, "POST", plane.GQL(theirs) + plane.GQL(ours), 400, "invalid_request", nil},
				{root, "POST", `{"query":"{ a }","query":"{ adminSystemKeys { total } }"}`, 400, "invalid_request", nil},
				{root, "POST", `{"query":"{ a }","Query":"{ adminSystemKeys { total } }"}`, 400, "invalid_request", nil},
				{root, "POST", `{"query":"{ a }","variables":{"a":1,"a":2}}`, 400, "invalid_request", nil},
				{root, "POST", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}`, 400, "invalid_request", nil},
				{root, "POST", plane.GQL(`"\/" query { adminSystemKeys { total } }`), 400, "invalid_document", nil},
				{root, "POST", plane.GQL(`{ adminSystemKeys(q: "a\/b") { total } }`), 400, "invalid_document", nil},
				{root, "POST", plane.GQL(""), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(several, `,"operationName":"A"`), 200, "", nil},
				{reader, "POST", plane.GQL(several, `,"operationName":"A"`), 200, "", nil},
				{root, "POST", plane.GQL(several), 400, "invalid_document", nil},
				{root, "POST", plane.GQL(several, `,"operationName":"C"`), 400, "invalid_document", nil},
				{root, "POST", plane.GQL("query A "+ours+" query A { adminAuditLog { total } }", `,"operationName":"A"`), 400, "invalid_document", nil},
				{root, "POST", plane.GQL("query A "+ours+ours, `,"operationName":"A"`), 400, "invalid_document", nil},
				{root, "POST", plane.GQL("query A "+ours+" query B "+fields, `,"operationName":"A"`), 400, "invalid_request", nil},
				{root, "POST", plane.GQL("query A "+theirs+" query B "+ours, `,"operationName":"A"`), 400, mixed, nil},
				{root, "POST", plane.GQL("query A "+theirs+" query B "+ours, `,"operationName":"B"`), 400, mixed, nil},
				{root, "POST", plane.GQL("{ adminSystemKeys { total } streams { id } }"), 400, mixed, nil},
				{root, "POST", plane.GQL("fragment f on Query " + ours), 400, "invalid_request", nil},
				{root, "POST", plane.GQL("{ ...f }"), 400, "invalid_request", nil},
				{root, "POST", plane.GQL("{ ...f } fragment f on Query { ...f }"), 400, "invalid_request", nil},
				{root, "POST", plane.GQL("{ ...f } fragment f on Query { a } fragment f on Query { adminSystemKeys { total } }"), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(laughs), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(deep), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(strings.Repeat("{a", 100_000)), 400, "invalid_request", nil},
				{root, "POST", plane.GQL("{ a(x: " + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + ") }"), 400, "invalid_request", nil},
				{root, "POST", plane.GQL("{ " + strings.Repeat("a ", 30_000) + "}"), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(aliases + "}"), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(fields), 400, "invalid_request", nil},
				{root, "POST", plane.GQL(ours), 415, "unsupported_media_type", []string{"Content-Type", "application/graphql"}},
				{root, "POST", plane.GQL(ours), 415, "unsupported_media_type", []string{"Content-Type", "multipart/form-data; boundary=x"}},
				{root, "POST", plane.GQL(ours), 415, "unsupported_media_type", []string{"Content-Encoding", "gzip"}},
			} {
				a := c.who.Call(t, c.method, admin.GraphQLPath, c.body, c.header...)
				if a.Status != c.status || c.code != "" && !strings.Contains(a.Body, `"code":"`+c.code+`"`) {
					t.Errorf("%s %.120s: got %d %.300s, want %d %s", c.method, c.body, a.Status, a.Body, c.status, c.code)
				}
				if c.status == 200 && strings.Contains(a.Body, `"errors"`) {
					t.Errorf("%.120s: got %s", c.body, a.Body)
				}
				if got := upstream.take(); got != "" {
					t.Errorf("%.120s went upstream: %s", c.body, got)
				}
			}
			for _, spelling := range []string{"/v1/gql/", "/v1//gql", "/V1/gql", "/v1/%67ql", "/v1/x/../gql", "/v1/gql;a=b", "/v1%2fgql"} {
				if a := root.Call(t, http.MethodPost, spelling, plane.GQL(ours)); a.Status != 404 || upstream.take() != "" {
					t.Errorf("%s got %d", spelling, a.Status)
				}
			}
			if a := root.Call(t, http.MethodPost, "/v1/gqlx", plane.GQL(ours)); a.Body != "upstream" || upstream.take() == "" {
				t.Errorf("another path got %d", a.Status)
			}
			if codes := reader.GraphQL(t, `mutation { a: adminCreateSystemKey(input: {label: "x"}) { id } b: adminDeleteSystemKey(id: "x") { id } }`, nil, nil); strings.Join(codes, " ") != "forbidden not_found" {
				t.Errorf("a reader's mutations: %v", codes)
			}
			if codes := root.GraphQL(t, `{ adminSystemKeys(limit: 1000, sort: "x") { total } adminAuditLog(cursor: "x") { total } }`, nil, nil); strings.Join(slices.Compact(codes), " ") != "validation_failed" || len(codes) != 2 {
				t.Errorf("values that break rules: %v", codes)
			}
			a := root.Call(t, http.MethodPost, admin.GraphQLPath, plane.GQL(ours), "Accept", "application/graphql-response+json;q=1, application/json;q=0.5")
			if a.Header.Get("Content-Type") != "application/graphql-response+json" {
				t.Errorf("Content-Type is %s", a.Header.Get("Content-Type"))
			}
		})
	}
}
