package plane

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// Paths of the REST API. NobodyPath is that of a key that is not there.
const (
	KeysPath    = "/v1/admin/system-keys"
	AuditPath   = "/v1/admin/audit-log"
	OpenAPIPath = KeysPath + "/openapi.json"
	NobodyPath  = KeysPath + "/0197f000-0000-7000-8000-000000000000"
)

// KeyList, OneKey, OneRevoked, ManyRevoked and AuditList are answers of the API.
type (
	KeyList struct {
		Data  []admin.KeyJSON
		Links envelopeLinks `json:"_links"`
		Meta  struct{ Total int }
	}
	OneKey struct {
		Data  admin.KeyJSON
		Links envelopeLinks `json:"_links"`
	}
	OneRevoked struct {
		Data  admin.RevokedJSON
		Links envelopeLinks `json:"_links"`
	}
	ManyRevoked struct {
		Data  admin.RevokedKeysJSON
		Links envelopeLinks `json:"_links"`
	}
	AuditList struct {
		Data  []admin.AuditJSON
		Links envelopeLinks `json:"_links"`
		Meta  struct {
			Total    int
			Relation string `json:"total_relation"`
		}
	}
	envelopeLinks struct{ Self, Collection, Next struct{ Href string } }
)

// Caller is somebody who calls the admin plane.
type Caller struct {
	URL       string
	Authorize func(r *http.Request) // nil for nobody
	// API is the description with which answers are compared. It may be nil.
	API  *OpenAPI
	Kind string
	// Actor and ID are what the audit log is to say, as type and id, and Creator what
	// keys are to say.
	Actor, ID string
	Creator   string
}

// SystemAdmins are system admins of every kind.
func (p *Plane) SystemAdmins(tb testing.TB) []*Caller {
	tb.Helper()
	return []*Caller{p.ByKey(tb, true), p.ByToken(true), p.ByName("ada")}
}

// As is a caller who shows something.
func (p *Plane) As(authorize func(*http.Request)) *Caller {
	return &Caller{URL: p.URL, API: p.API, Authorize: authorize}
}

// Bearer shows a credential.
func Bearer(credential string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+credential) }
}

// ByKey has a new key.
func (p *Plane) ByKey(tb testing.TB, isSystem bool, permissions ...string) *Caller {
	tb.Helper()
	key, plain := p.create(tb, admin.NewKey{Label: "caller", IsSystem: isSystem, Permissions: permissions})
	c := p.As(Bearer(plain))
	c.Kind, c.Actor, c.ID, c.Creator = "key", "system_key", key.ID.String(), key.ID.String()
	return c
}

// ByToken has a token of the issuer.
func (p *Plane) ByToken(isSystem bool, permissions ...string) *Caller {
	token := p.Issuer.Token(map[string]any{"sub": "u-17", "name": "Grace", "is_system": isSystem, "permissions": permissions})
	c := p.As(Bearer("lm_" + token))
	c.Kind, c.Actor, c.ID, c.Creator = "token", "user", "u-17", "user:u-17"
	return c
}

// ByName is a user of basic_auth.
func (p *Plane) ByName(name string) *Caller {
	return &Caller{
		URL: p.Trusting, API: p.API, Authorize: func(r *http.Request) { r.SetBasicAuth(name, Password) },
		Kind: "trusted user", Actor: "user", ID: name, Creator: "user:" + name,
	}
}

// Reply is what a caller got.
type Reply struct {
	Status int
	Header http.Header
	Body   string
}

// Call makes one request; the answer must be as it is documented. The header has
// pairs of names and values.
func (c *Caller) Call(tb testing.TB, method, path, body string, header ...string) Reply {
	tb.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(tb.Context(), method, c.URL+path, content)
	if err != nil {
		tb.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", admin.MediaJSON)
	}
	if strings.Contains(path, `\`) { // which the client would escape
		request.URL.Opaque = path
	}
	if c.Authorize != nil {
		c.Authorize(request)
	}
	reply, response := exchange(tb, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: stay}, request, header)
	if c.API != nil {
		c.API.check(tb, response, []byte(reply.Body))
	}
	return reply
}

// stay follows no redirect.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// exchange makes a request with the header fields, and reads the answer.
func exchange(tb testing.TB, client *http.Client, request *http.Request, header []string) (Reply, *http.Response) {
	tb.Helper()
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
		if strings.EqualFold(header[i], "Host") {
			request.Host = header[i+1]
		}
	}
	response, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return Reply{response.StatusCode, response.Header, string(text)}, response
}

// Must has the answer have a status, and reads it into a value.
func (a Reply) Must(tb testing.TB, status int, into any) Reply {
	tb.Helper()
	if a.Status != status {
		tb.Fatalf("got %d %s, want %d", a.Status, a.Body, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.Body), into); err != nil {
			tb.Fatalf("%v in %s", err, a.Body)
		}
	}
	return a
}

// Is fails unless the status is the one and the text is in the body.
func (a Reply) Is(tb testing.TB, what string, status int, text string) Reply {
	tb.Helper()
	if a.Status != status || !strings.Contains(a.Body, text) {
		tb.Errorf("%s: got %d %s, want %d with %q", what, a.Status, a.Body, status, text)
	}
	return a
}

// GraphQL sends a document that is to be executed, and reads data into a value. The
// codes of errors are returned.
func (c *Caller) GraphQL(tb testing.TB, query string, variables map[string]any, into any) []string {
	tb.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		tb.Fatal(err)
	}
	var response struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Extensions struct {
				Code      string
				RequestID string `json:"request_id"`
			}
		}
	}
	c.Call(tb, http.MethodPost, admin.GraphQLPath, string(body)).Must(tb, http.StatusOK, &response)
	if into != nil {
		if err := json.Unmarshal(response.Data, into); err != nil {
			tb.Fatalf("%v in %s", err, response.Data)
		}
	}
	var codes []string
	for _, e := range response.Errors {
		if e.Extensions.RequestID == "" {
			tb.Errorf("no request id with %q", e.Message)
		}
		codes = append(codes, e.Extensions.Code)
	}
	return codes
}

// GQL is a body with a document, and with more members.
func GQL(query string, more ...string) string {
	return fmt.Sprintf(`{"query":%s%s}`, Quote(query), strings.Join(more, ""))
}

// Quote makes a string of JSON.
func Quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
