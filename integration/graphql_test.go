package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// bodies is an upstream that keeps what it was sent.
type bodies struct {
	mu     sync.Mutex
	texts  []string
	header http.Header
}

func (u *bodies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.texts, u.header = append(u.texts, r.Method+" "+string(body)), r.Header
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

func gql(query string, more ...string) string {
	return fmt.Sprintf(`{"query":%s%s}`, quote(query), strings.Join(more, ""))
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestGraphQLDocuments(t *testing.T) {
	upstream := new(bodies)
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	b := onSQLite(t)
	p := &plane{keys: b.keys(t)} // what an upstream answers is not in our description
	root := p.byKey(t, true)
	reader := p.byKey(t, false, "system-keys:read")
	nobody := &caller{plane: p}

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
	for _, passthrough := range []bool{false, true} {
		t.Run(fmt.Sprintf("passthrough %v", passthrough), func(t *testing.T) {
			option := ""
			if passthrough {
				option = "graphql_passthrough"
			}
			url := "http://" + run(t, b, fmt.Sprintf("system_keys_admin {\n%s\n}\nreverse_proxy %s", option, server.Listener.Addr()))
			root.url, reader.url, nobody.url = url, url, url

			// handed is what goes upstream, and what it gets here where nothing does.
			handed := func(c *caller, method, body string, here int, header ...string) {
				t.Helper()
				a := c.call(t, method, gqlPath, body, header...)
				got := upstream.take()
				if passthrough && (a.status != http.StatusOK || got != method+" "+body) {
					t.Errorf("%.100s: got %d %s, and the upstream %q", body, a.status, a.body, got)
				}
				if !passthrough && (a.status != here || got != "") {
					t.Errorf("%.100s: got %d %s, want %d; and the upstream %q", body, a.status, a.body, here, got)
				}
			}
			handed(nobody, "POST", gql(theirs), 401)
			handed(root, "POST", gql(theirs), 400)
			handed(nobody, "POST", "{ \"query\" :\n"+quote("mutation M { stream { id } }")+", \"operationName\": \"M\" , \"variables\":{\"a\":[1.0,{\"b\":null}]}}", 401)
			handed(nobody, "POST", gql("query IntrospectionQuery { __schema { queryType { name } } }"), 401)
			handed(root, "POST", gql("{ __typename }"), 200)
			handed(nobody, "POST", gql("subscription { chat { text } }"), 403, "Origin", "https://dashboard.example", "Sec-Fetch-Site", "cross-site")
			handed(nobody, "POST", gql("{ a: adminSystemKeysX { id } adminsystemkeys }"), 401)
			handed(nobody, "POST", gql(`{ note(text: "adminSystemKeys") { id } } # adminSystemKeys`), 401)
			if passthrough {
				handed(nobody, "OPTIONS", "", 0, "Origin", "https://dashboard.example", "Access-Control-Request-Method", "POST")
				for _, c := range [][]string{{"OPTIONS", gqlPath}, {"OPTIONS", gqlPath + "?query={adminSystemKeys{total}}"}, {"POST", gqlPath + "?query={adminSystemKeys{total}}"}, {"POST", gqlPath + "?x"}} {
					if a := nobody.call(t, c[0], c[1], gql(theirs), "Origin", "https://dashboard.example", "Access-Control-Request-Method", "POST"); a.status != 400 || upstream.take() != "" {
						t.Errorf("%v got %d", c, a.status)
					}
				}
			} else if a := nobody.call(t, "OPTIONS", gqlPath, ""); a.status != 405 || upstream.take() != "" {
				t.Errorf("OPTIONS got %d", a.status)
			}

			// The rest never goes upstream.
			for _, c := range []struct {
				who    *caller
				method string
				body   string
				status int
				code   string
				header []string
			}{
				{root, "POST", gql(ours), 200, "", nil},
				{root, "POST", gql("query A { a: adminSystemKeys { total } ...f } fragment f on Query { ... { adminAuditLog { total } } }"), 200, "", nil},
				{root, "POST", gql("query A { adminSystemKeys { total } __schema { queryType { name } } }"), 200, "", nil},
				{root, "POST", gql(ours, `,"variables":null,"operationName":null,"extensions":{}`), 200, "", nil},
				{reader, "POST", gql(ours), 200, "", nil},
				{nobody, "POST", gql(ours), 401, "unauthorized", nil},
				{root, "POST", gql(ours), 403, "cross_origin", []string{"Sec-Fetch-Site", "cross-site"}},
				{root, "GET", "", 405, "method_not_allowed", nil},
				{root, "PUT", gql(ours), 405, "method_not_allowed", nil},
				{root, "POST", "[" + gql(ours) + "]", 400, "invalid_request", nil},
				{root, "POST", "[" + gql(theirs) + "]", 400, "invalid_request", nil},
				{root, "POST", gql(theirs) + gql(ours), 400, "invalid_request", nil},
				{root, "POST", `{"query":"{ a }","query":"{ adminSystemKeys { total } }"}`, 400, "invalid_request", nil},
				{root, "POST", `{"query":"{ a }","Query":"{ adminSystemKeys { total } }"}`, 400, "invalid_request", nil},
				{root, "POST", `{"query":"{ a }","variables":{"a":1,"a":2}}`, 400, "invalid_request", nil},
				{root, "POST", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}`, 400, "invalid_request", nil},
				{root, "POST", gql(`"\/" query { adminSystemKeys { total } }`), 400, "invalid_document", nil},
				{root, "POST", gql(`{ adminSystemKeys(q: "a\/b") { total } }`), 400, "invalid_document", nil},
				{root, "POST", gql(""), 400, "invalid_request", nil},
				{root, "POST", gql("query A " + theirs + " query B " + ours), 400, "invalid_request", nil},
				{root, "POST", gql("{ ...f }"), 400, "invalid_request", nil},
				{root, "POST", gql("{ ...f } fragment f on Query { ...f }"), 400, "invalid_request", nil},
				{root, "POST", gql("{ ...f } fragment f on Query { a } fragment f on Query { adminSystemKeys { total } }"), 400, "invalid_request", nil},
				{root, "POST", gql(laughs), 400, "invalid_request", nil},
				{root, "POST", gql(deep), 400, "invalid_request", nil},
				{root, "POST", gql(strings.Repeat("{a", 100_000)), 400, "invalid_request", nil},
				{root, "POST", gql("{ a(x: " + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + ") }"), 400, "invalid_request", nil},
				{root, "POST", gql("{ " + strings.Repeat("a ", 30_000) + "}"), 400, "invalid_request", nil},
				{root, "POST", gql(aliases + "}"), 400, "invalid_request", nil},
				{root, "POST", gql(fields), 400, "invalid_request", nil},
				{root, "POST", gql(ours), 415, "unsupported_media_type", []string{"Content-Type", "application/graphql"}},
				{root, "POST", gql(ours), 415, "unsupported_media_type", []string{"Content-Type", "multipart/form-data; boundary=x"}},
				{root, "POST", gql(ours), 415, "unsupported_media_type", []string{"Content-Encoding", "gzip"}},
			} {
				a := c.who.call(t, c.method, gqlPath, c.body, c.header...)
				if a.status != c.status || c.code != "" && !strings.Contains(a.body, `"code":"`+c.code+`"`) {
					t.Errorf("%s %.120s: got %d %.300s, want %d %s", c.method, c.body, a.status, a.body, c.status, c.code)
				}
				if c.status == 200 && strings.Contains(a.body, `"errors"`) {
					t.Errorf("%.120s: got %s", c.body, a.body)
				}
				if got := upstream.take(); got != "" {
					t.Errorf("%.120s went upstream: %s", c.body, got)
				}
			}
			mixed := root.call(t, http.MethodPost, gqlPath, gql("{ adminSystemKeys { total } streams { id } }"))
			if upstream.take() != "" || mixed.status != 400 || passthrough != strings.Contains(mixed.body, "mixed_document") {
				t.Errorf("a mixed document got %d %s", mixed.status, mixed.body)
			}
			for _, spelling := range []string{"/v1/gql/", "/v1//gql", "/V1/gql", "/v1/%67ql", "/v1/x/../gql", "/v1/gql;a=b", "/v1%2fgql"} {
				if a := root.call(t, http.MethodPost, spelling, gql(ours)); a.status != 404 || upstream.take() != "" {
					t.Errorf("%s got %d", spelling, a.status)
				}
			}
			if a := root.call(t, http.MethodPost, "/v1/gqlx", gql(ours)); a.body != "upstream" || upstream.take() == "" {
				t.Errorf("another path got %d", a.status)
			}
			if codes := reader.graphQL(t, `mutation { a: adminCreateSystemKey(input: {label: "x"}) { id } b: adminDeleteSystemKey(id: "x") { id } }`, nil, nil); strings.Join(codes, " ") != "forbidden not_found" {
				t.Errorf("a reader's mutations: %v", codes)
			}
			if codes := root.graphQL(t, `{ adminSystemKeys(limit: 1000, sort: "x") { total } adminAuditLog(cursor: "x") { total } }`, nil, nil); strings.Join(slices.Compact(codes), " ") != "validation_failed" || len(codes) != 2 {
				t.Errorf("values that break rules: %v", codes)
			}
			a := root.call(t, http.MethodPost, gqlPath, gql(ours), "Accept", "application/graphql-response+json;q=1, application/json;q=0.5")
			if a.header.Get("Content-Type") != "application/graphql-response+json" {
				t.Errorf("Content-Type is %s", a.header.Get("Content-Type"))
			}
		})
	}
}
