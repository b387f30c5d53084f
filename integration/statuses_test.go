package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	openAPIPath = keysPath + "/openapi.json"
	sdlPath     = keysPath + "/schema.graphql"
	gqlPath     = "/v1/gql"
	nobody      = keysPath + "/0197f000-0000-7000-8000-000000000000"
)

// asked is a request, and what it is to get.
type asked struct {
	method, path, body string
	header             []string
	status             int
	code               string
}

// TestEveryDocumentedStatus meets each status of each operation at least once,
// and compares the answer with its description.
func TestEveryDocumentedStatus(t *testing.T) {
	b := onSQLite(t)
	p := newPlane(t, b, "lease 2s\n")
	root := p.byKey(t, true)
	victim, _ := mint(t, p.keys, "victim")
	one := keysPath + "/" + victim.ID.String()
	query := func(q string) string { return fmt.Sprintf(`{"query":%q}`, q) }

	for _, a := range []asked{
		{"GET", keysPath, "", nil, 200, ""},
		{"POST", keysPath, `{"label":"x"}`, nil, 201, ""},
		{"GET", one, "", nil, 200, ""},
		{"GET", auditPath, "", nil, 200, ""},
		{"GET", openAPIPath, "", nil, 200, ""},
		{"GET", sdlPath, "", nil, 200, ""},
		{"POST", gqlPath, query("{ adminSystemKeys { total } }"), nil, 200, ""},
		{"GET", nobody, "", nil, 404, "not_found"},
		{"DELETE", nobody, "", nil, 404, "not_found"},
		{"GET", keysPath + "?limit=0", "", nil, 422, "validation_failed"},
		{"GET", auditPath + "?limit=0", "", nil, 422, "validation_failed"},
		{"GET", auditPath + "?event=x&key_id=y&since=z", "", nil, 422, "validation_failed"},
		{"POST", keysPath, `{"label":""}`, nil, 422, "validation_failed"},
		{"POST", keysPath, `{"label":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, "too_large"},
		{"POST", gqlPath, `{"query":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "too_large"},
		{"POST", gqlPath, query("{ nothing }"), nil, 400, ""},
		{"POST", gqlPath, query("{"), nil, 400, "invalid_request"},
		{"PUT", one, "{}", nil, 405, "method_not_allowed"},
		{"GET", gqlPath, "", nil, 405, "method_not_allowed"},
		{"DELETE", auditPath, "", nil, 405, "method_not_allowed"},
	} {
		a.by(t, root)
	}
	// What every operation has in common.
	stranger := &caller{plane: p, url: p.url}
	powerless := p.byKey(t, false, "bots:read")
	for _, o := range []struct{ method, path, body string }{
		{"GET", keysPath, ""},
		{"POST", keysPath, `{"label":"x"}`},
		{"GET", one, ""},
		{"DELETE", one, ""},
		{"GET", auditPath, ""},
		{"POST", gqlPath, query("{ adminSystemKeys { total } }")},
	} {
		asked{o.method, o.path, o.body, nil, 401, "unauthorized"}.by(t, stranger)
		asked{o.method, o.path, o.body, []string{"Accept", "text/html"}, 406, "not_acceptable"}.by(t, root)
		asked{o.method, o.path, o.body, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"}.by(t, root)
		asked{o.method, o.path + "?token=lm_sys_x", o.body, nil, 400, "invalid_request"}.by(t, root)
		if o.path != gqlPath {
			asked{o.method, o.path, o.body, nil, 403, "forbidden"}.by(t, powerless)
		}
	}
	asked{"POST", gqlPath, query("{ adminSystemKeys { total } }"), []string{"Origin", "https://evil.example"}, 403, "cross_origin"}.by(t, root)
	for _, path := range []string{openAPIPath, sdlPath} {
		asked{"GET", path, "", []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"}.by(t, stranger)
	}

	awaited(t, p, root, one)
	asked{"DELETE", one, "", nil, 200, ""}.by(t, root)
	fresh, _ := mint(t, p.keys, "fresh")
	asked{"DELETE", keysPath + "/" + fresh.ID.String(), "", nil, 200, ""}.by(t, root)

	foreign(t, p.api)
	unavailable(t, p.api)
	p.api.complete(t)
}

func (a asked) by(t *testing.T, c *caller) reply {
	t.Helper()
	got := c.call(t, a.method, a.path, a.body, a.header...)
	if got.status != a.status {
		t.Errorf("%s %.80s: got %d %.300s, want %d", a.method, a.path, got.status, got.body, a.status)
		return got
	}
	if a.status < 400 || a.code == "" {
		return got
	}
	var refusal struct {
		Error struct {
			Code, Message string
			Status        int
			RequestID     string `json:"request_id"`
		}
	}
	if err := json.Unmarshal([]byte(got.body), &refusal); err != nil {
		t.Fatal(err)
	}
	e := refusal.Error
	if e.Code != a.code || e.Status != a.status || e.Message == "" || e.RequestID == "" {
		t.Errorf("%s %.80s: got %s, want %s", a.method, a.path, got.body, a.code)
	}
	if a.status == http.StatusMethodNotAllowed && got.header.Get("Allow") == "" {
		t.Errorf("%s %s: no Allow", a.method, a.path)
	}
	return got
}

// awaited revokes a key while an instance is silent.
func awaited(t *testing.T, p *plane, root *caller, path string) {
	t.Helper()
	feed, err := p.keys.Store.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = feed.Close() }()
	silent := &store.Member{ID: store.ID(uuid.New()), Name: "silent one", TTL: time.Second}
	if err := feed.Join(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	var revoked oneRevoked
	a := root.call(t, http.MethodDelete, path, "", "Prefer", "wait=0").must(t, http.StatusAccepted, &revoked)
	if i := revoked.Data.Instances; i.Total == 0 || len(i.Awaited) == 0 || a.header.Get("Preference-Applied") != "wait=0" {
		t.Errorf("got %s %v", a.body, a.header)
	}
}

// foreign reaches a plane under a host that it does not have.
func foreign(t *testing.T, api *openAPI) {
	t.Helper()
	address := testenv.FreeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	load(t, globals(onSQLite(t).options)+fmt.Sprintf(`:%s {
		system_keys_admin {
			allowed_hosts keys.example.com ::1
		}
		respond upstream
	}`, port))
	c := &caller{plane: &plane{api: api}, url: "http://" + address}
	for _, path := range []string{openAPIPath, sdlPath} {
		for host, status := range map[string]int{
			"evil.example": 403, "keys.example.com.evil.example": 403, "": 403,
			"keys.example.com": 200, "KEYS.example.com:8443": 200, "[::1]:80": 200, "keys.example.com.": 200,
		} {
			if host == "" {
				host = address
			}
			asked{"GET", path, "", []string{"Host", host}, status, map[int]string{403: "host_not_allowed"}[status]}.by(t, c)
		}
	}
	if got := c.call(t, http.MethodGet, "/other", ""); got.status != 200 {
		t.Errorf("another path got %d", got.status)
	}
}

// unavailable asks while there is no database.
func unavailable(t *testing.T, api *openAPI) {
	t.Helper()
	b, server := onPrivatePostgres(t)
	p := newPlane(t, b, "lease 2s\n")
	p.api = api
	root := p.byKey(t, true)
	bot, _ := mint(t, p.keys, "bot")
	root.call(t, http.MethodGet, keysPath, "").must(t, http.StatusOK, nil)
	server.Stop()
	one := keysPath + "/" + bot.ID.String()
	for _, o := range []struct{ method, path, body string }{
		{"GET", keysPath, ""}, {"POST", keysPath, `{"label":"x"}`}, {"GET", one, ""}, {"DELETE", one, ""}, {"GET", auditPath, ""},
	} {
		got := asked{o.method, o.path, o.body, nil, 503, "unavailable"}.by(t, root)
		if got.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", o.method, o.path)
		}
	}
	// Nobody knows who calls any more, and so nothing is executed.
	time.Sleep(2 * time.Second)
	asked{"POST", gqlPath, `{"query":"{ adminSystemKeys { total } }"}`, nil, 503, "unavailable"}.by(t, root)
}
