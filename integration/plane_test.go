package integration_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// plane is an admin plane in front of an API, at two addresses: one that knows
// keys and tokens, and one that trusts the users of basic_auth.
type plane struct {
	keys     *admin.Service
	url      string
	trusting string
	issuer   *issuer
	api      *openAPI
}

const password = "correct horse battery staple"

// newPlane runs one. Ada is a system admin, and bob may create keys for
// bots:read.
func newPlane(t *testing.T, b *backend, options string) *plane {
	t.Helper()
	p := &plane{keys: b.keys(t), issuer: newIssuer(t), api: readOpenAPI(t)}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	knowing, trusting := testenv.FreeAddress(t), testenv.FreeAddress(t)
	p.url, p.trusting = "http://"+knowing, "http://"+trusting
	load(t, globals(b.options+"\nlast_used_interval 100ms\n"+cheap+options)+fmt.Sprintf(`
		http://%s {
			system_keys_admin {
				jwt {
					jwks %s
					algorithms EdDSA
					issuer https://lumio.example
					audience lumio-admin
				}
			}
			@privileged path /privileged
			system_key_auth @privileged {
				require bots:admin
			}
			system_key_auth {
				passthrough
			}
			reverse_proxy %s
		}
		http://%s {
			basic_auth {
				ada %[5]s
				bob %[5]s
			}
			map {http.auth.user.id} {admin_permissions} {admin_system} {
				ada "" true
				bob "system-keys:create, bots:read" no
			}
			system_keys_admin {
				trust_auth_user {
					permissions {admin_permissions}
					system {admin_system}
				}
			}
			respond "upstream"
		}`, knowing, p.issuer.url, echo(t), trusting, hash))
	return p
}

// caller is somebody who calls the admin plane.
type caller struct {
	plane     *plane
	kind      string
	url       string
	authorize func(r *http.Request)
	// actor is what the audit log is to say, as type and id.
	actor, id string
	creator   string
}

// systemAdmins are system admins of every kind.
func (p *plane) systemAdmins(t *testing.T) []*caller {
	t.Helper()
	return []*caller{
		p.byKey(t, true), p.byToken(t, true), p.byName("ada"),
	}
}

func bearer(credential string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+credential) }
}

func (p *plane) byKey(t *testing.T, isSystem bool, permissions ...string) *caller {
	t.Helper()
	key, plain, err := p.keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "caller", IsSystem: isSystem, Permissions: permissions})
	if err != nil {
		t.Fatal(err)
	}
	return &caller{
		plane: p, kind: "key", url: p.url, authorize: bearer(plain), actor: "system_key", id: key.ID.String(), creator: key.ID.String(),
	}
}

func (p *plane) byToken(t *testing.T, isSystem bool, permissions ...string) *caller {
	t.Helper()
	token := p.issuer.token(map[string]any{"sub": "u-17", "name": "Grace", "is_system": isSystem, "permissions": permissions})
	return &caller{
		plane: p, kind: "token", url: p.url, authorize: bearer("lm_" + token), actor: "user", id: "u-17", creator: "user:u-17",
	}
}

func (p *plane) byName(name string) *caller {
	return &caller{
		plane: p, kind: "trusted user", url: p.trusting, actor: "user", id: name, creator: "user:" + name,
		authorize: func(r *http.Request) { r.SetBasicAuth(name, password) },
	}
}

// reply is what a caller got.
type reply struct {
	status int
	header http.Header
	body   string
}

// call makes one request; the answer must be as it is documented. The header has
// pairs of names and values.
func (c *caller) call(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, c.url+path, content)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.authorize != nil {
		c.authorize(request)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
		if strings.EqualFold(header[i], "Host") {
			request.Host = header[i+1]
		}
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if c.plane.api != nil {
		c.plane.api.check(t, request, response, text)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

// must has the answer have a status, and reads it into a value.
func (a reply) must(t *testing.T, status int, into any) reply {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d %s, want %d", a.status, a.body, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
	}
	return a
}

// graphQL sends a document that is to be executed, and reads data into a value.
// The codes of errors are returned.
func (c *caller) graphQL(t *testing.T, query string, variables map[string]any, into any) []string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		t.Fatal(err)
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
	c.call(t, http.MethodPost, "/v1/gql", string(body)).must(t, http.StatusOK, &response)
	if into != nil {
		if err := json.Unmarshal(response.Data, into); err != nil {
			t.Fatalf("%v in %s", err, response.Data)
		}
	}
	var codes []string
	for _, e := range response.Errors {
		if e.Extensions.RequestID == "" {
			t.Errorf("no request id with %q", e.Message)
		}
		codes = append(codes, e.Extensions.Code)
	}
	return codes
}

// issuer signs the tokens of people.
type issuer struct {
	url string
	key ed25519.PrivateKey
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","alg":"EdDSA","x":%q}]}`,
		base64.RawURLEncoding.EncodeToString(public))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, bytes.NewReader([]byte(set)))
	}))
	tb.Cleanup(server.Close)
	return &issuer{server.URL + "/jwks.json", private}
}

// token signs claims, beside those that every token has.
func (i *issuer) token(claims map[string]any) string {
	whole := map[string]any{
		"iss": "https://lumio.example", "aud": "lumio-admin", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
	maps.Copy(whole, claims)
	segment := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := segment(map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": "k1"}) + "." + segment(whole)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.key, []byte(input)))
}
