package admin_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const total = `{"query":"{ adminSystemKeys { total } }"}`

// TestEveryDocumentedStatus meets each status of each operation at least once,
// and compares the answer with its description.
func TestEveryDocumentedStatus(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root, stranger, powerless := p.ByKey(t, true), p.As(nil), p.ByKey(t, false, "bots:read")
	victim, _ := p.Mint(t, "victim")
	one := plane.KeysPath + "/" + victim.ID.String()
	rotatedOnce, _ := p.Mint(t, "rotated")
	used := rotated(t, root, plane.KeysPath+"/"+rotatedOnce.ID.String(), "").Data.ID
	use(t, p, used)
	_, endless, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "endless", Permissions: []string{admin.PermissionRotate}})
	if err != nil {
		t.Fatal(err)
	}
	bot := p.As(plane.Bearer(endless))
	use(t, p, rotated(t, bot, selfPath, "").Data.ID)
	ask(t, bot, "POST", selfPath+"/rotate", "", 409, "conflict")

	for _, a := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", plane.KeysPath, "", 200, ""},
		{"POST", plane.KeysPath, `{"label":"x"}`, 201, ""},
		{"GET", one, "", 200, ""},
		{"GET", one + "/activity", "", 200, ""},
		{"GET", selfPath, "", 200, ""},
		{"POST", selfPath + "/rotate", `{"grace":"90m"}`, 201, ""},
		{"POST", one + "/rotate", `{"deadline":"1.5d","now":null}`, 201, ""},
		{"POST", plane.KeysPath + "/" + rotatedOnce.ID.String() + "/rotate", "", 409, "conflict"},
		{"POST", plane.NobodyPath + "/rotate", "", 404, "not_found"},
		{"POST", one + "/rotate", `{"grace":"1s"}`, 422, "validation_failed"},
		{"POST", selfPath + "/rotate", `{"grace":"1s"}`, 422, "validation_failed"},
		{"POST", one + "/rotate", `{"grace":"` + strings.Repeat("1", 64<<10) + `"}`, 413, "too_large"},
		{"POST", selfPath + "/rotate", `{"grace":"` + strings.Repeat("1", 64<<10) + `"}`, 413, "too_large"},
		{"GET", plane.AuditPath, "", 200, ""},
		{"GET", plane.OpenAPIPath, "", 200, ""},
		{"GET", admin.SchemaPath, "", 200, ""},
		{"POST", admin.GraphQLPath, total, 200, ""},
		{"DELETE", plane.KeysPath + "?label_prefix=nobody", "", 200, ""},
		{"DELETE", plane.KeysPath + "?label_prefix=x&dry_run=true", "", 200, ""},
		{"DELETE", plane.KeysPath + "?created_since=x", "", 422, "validation_failed"},
		{"GET", plane.NobodyPath, "", 404, "not_found"},
		{"GET", plane.NobodyPath + "/activity", "", 404, "not_found"},
		{"DELETE", plane.NobodyPath, "", 404, "not_found"},
		{"GET", plane.KeysPath + "?limit=0", "", 422, "validation_failed"},
		{"GET", plane.AuditPath + "?limit=0", "", 422, "validation_failed"},
		{"GET", plane.AuditPath + "?event=x&key_id=y&since=z", "", 422, "validation_failed"},
		{"POST", plane.KeysPath, `{"label":""}`, 422, "validation_failed"},
		{"POST", plane.KeysPath, `{"label":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "too_large"},
		{"POST", admin.GraphQLPath, `{"query":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "too_large"},
		{"POST", admin.GraphQLPath, plane.GQL("{ nothing }"), 400, ""},
		{"POST", admin.GraphQLPath, plane.GQL("{"), 400, "invalid_request"},
		{"PUT", one, "{}", 405, "method_not_allowed"},
		{"GET", admin.GraphQLPath, "", 405, "method_not_allowed"},
		{"DELETE", plane.AuditPath, "", 405, "method_not_allowed"},
	} {
		ask(t, root, a.method, a.path, a.body, a.status, a.code)
	}
	// What every operation has in common.
	for _, o := range []struct{ method, path, body string }{
		{"GET", plane.KeysPath, ""},
		{"POST", plane.KeysPath, `{"label":"x"}`},
		{"DELETE", plane.KeysPath, ""},
		{"GET", one, ""},
		{"GET", one + "/activity", ""},
		{"POST", one + "/rotate", ""},
		{"GET", selfPath, ""},
		{"POST", selfPath + "/rotate", ""},
		{"DELETE", one, ""},
		{"GET", plane.AuditPath, ""},
		{"POST", admin.GraphQLPath, total},
	} {
		ask(t, stranger, o.method, o.path, o.body, 401, "unauthorized")
		ask(t, root, o.method, o.path, o.body, 406, "not_acceptable", "Accept", "text/html")
		ask(t, root, o.method, o.path, o.body, 415, "unsupported_media_type", "Content-Type", "text/plain")
		ask(t, root, o.method, o.path+"?token=lm_sys_x", o.body, 400, "invalid_request")
		if o.path != admin.GraphQLPath && o.path != selfPath {
			ask(t, powerless, o.method, o.path, o.body, 403, "forbidden")
		}
	}
	person := p.ByToken(true)
	ask(t, person, "GET", selfPath, "", 404, "not_found")
	ask(t, person, "POST", selfPath+"/rotate", "", 404, "not_found")
	_, fenced, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "fenced", Networks: []string{"192.0.2.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, p.As(plane.Bearer(fenced)), "GET", selfPath, "", 403, "network_not_allowed")
	ask(t, root, "POST", admin.GraphQLPath, total, 403, "cross_origin", "Origin", "https://evil.example")
	for _, path := range []string{plane.OpenAPIPath, admin.SchemaPath} {
		ask(t, stranger, "GET", path, "", 415, "unsupported_media_type", "Content-Type", "text/plain")
	}

	awaited(t, p, root, one)
	awaited(t, p, root, plane.KeysPath+"?label_prefix=nobody")
	ask(t, root, "DELETE", one, "", 200, "")
	fresh, _ := p.Mint(t, "fresh")
	ask(t, root, "DELETE", plane.KeysPath+"/"+fresh.ID.String(), "", 200, "")

	foreign(t, p.API)
	unavailable(t, p.API)
	p.API.Complete(t)
}

// awaited revokes a key while an instance is silent.
func awaited(t *testing.T, p *plane.Plane, root *plane.Caller, path string) {
	t.Helper()
	feed, err := p.Keys.Store.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = feed.Close() }()
	silent := &store.Member{ID: store.ID(uuid.New()), Name: "silent one", TTL: time.Second}
	if err := feed.Join(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	var revoked plane.OneRevoked
	a := root.Call(t, http.MethodDelete, path, "", "Prefer", "wait=0").Must(t, http.StatusAccepted, &revoked)
	if i := revoked.Data.Instances; i.Total == 0 || len(i.Awaited) == 0 || a.Header.Get("Preference-Applied") != "wait=0" {
		t.Errorf("got %s %v", a.Body, a.Header)
	}
}

// foreign reaches a plane under a host that it does not have.
func foreign(t *testing.T, api *plane.OpenAPI) {
	t.Helper()
	p := plane.New(t, plane.Options{Hosts: []string{"keys.example.com", "::1"}})
	p.API = api
	for _, path := range []string{plane.OpenAPIPath, admin.SchemaPath} {
		for host, status := range map[string]int{
			"evil.example": 403, "keys.example.com.evil.example": 403, strings.TrimPrefix(p.URL, "http://"): 403,
			"keys.example.com": 200, "KEYS.example.com:8443": 200, "[::1]:80": 200, "keys.example.com.": 200,
		} {
			ask(t, p.As(nil), "GET", path, "", status, map[int]string{403: "host_not_allowed"}[status], "Host", host)
		}
	}
	ask(t, p.As(nil), "GET", "/other", "", 200, "")
}

// unavailable asks while there is no database.
func unavailable(t *testing.T, api *plane.OpenAPI) {
	t.Helper()
	server := testenv.StartPostgres(t)
	p := plane.New(t, plane.Options{DSN: server.Database(), Lease: 2 * time.Second})
	p.API = api
	root := p.ByKey(t, true)
	bot, _ := p.Mint(t, "bot")
	root.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusOK, nil)
	server.Stop()
	one := plane.KeysPath + "/" + bot.ID.String()
	for _, o := range []struct{ method, path, body string }{
		{"GET", plane.KeysPath, ""},
		{"POST", plane.KeysPath, `{"label":"x"}`},
		{"GET", one, ""},
		{"GET", one + "/activity", ""},
		{"POST", one + "/rotate", ""},
		{"GET", selfPath, ""},
		{"POST", selfPath + "/rotate", ""},
		{"DELETE", one, ""},
		{"DELETE", plane.KeysPath + "?label_prefix=bot", ""},
		{"GET", plane.AuditPath, ""},
	} {
		if a := ask(t, root, o.method, o.path, o.body, 503, "unavailable"); a.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", o.method, o.path)
		}
	}
	// When the lease is over nobody knows who calls any more, and so nothing is executed.
	for deadline := time.Now().Add(time.Minute); root.Call(t, "POST", admin.GraphQLPath, total).Status != 503; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lease is not over")
		}
	}
	ask(t, root, "POST", admin.GraphQLPath, total, 503, "unavailable")
}

// TestOpenAPIIsWellFormed checks the description against the specification, and
// for what the specification leaves open and its readers need.
func TestOpenAPIIsWellFormed(t *testing.T) {
	t.Parallel()
	text, operations, mistakes := plane.ReadOpenAPI(t).Document()
	for _, mistake := range mistakes {
		t.Error(mistake)
	}
	ids := map[string]bool{}
	for _, o := range operations {
		name := o.Method + " " + o.Path
		if o.OperationID == "" || ids[o.OperationID] {
			t.Errorf("%s: the id %q is missing or not the only one", name, o.OperationID)
		}
		ids[o.OperationID] = true
		if o.Summary == "" || o.Description == "" || len(o.Tags) != 1 || strings.HasSuffix(o.Summary, ".") {
			t.Errorf("%s: needs a summary without a full stop, a description and one tag", name)
		}
		for _, p := range o.Parameters {
			if p.Description == "" || p.Name == "" {
				t.Errorf("%s: parameter %q has no description", name, p.Name)
			}
		}
	}
	unused(t, text)
}

// unused finds components that nothing refers to, and references to nothing.
func unused(t *testing.T, text []byte) {
	t.Helper()
	var document struct {
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	referred := map[string]bool{}
	for _, match := range regexp.MustCompile(`"#/components/([a-zA-Z]+/[a-zA-Z]+)"`).FindAllStringSubmatch(string(text), -1) {
		referred[match[1]] = true
	}
	for kind, components := range document.Components {
		for name := range components {
			if kind != "securitySchemes" && !referred[kind+"/"+name] {
				t.Errorf("nothing refers to %s/%s", kind, name)
			}
			delete(referred, kind+"/"+name)
		}
	}
	for missing := range referred {
		t.Errorf("there is no %s", missing)
	}
}
