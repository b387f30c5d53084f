package admin_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	selfPath = plane.KeysPath + "/self"
	anyHash  = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"
)

// rotated rotates a key by its path, and returns the answer.
func rotated(t *testing.T, c *plane.Caller, path, body string) plane.OneKey {
	t.Helper()
	var created plane.OneKey
	a := c.Call(t, http.MethodPost, path+"/rotate", body).Must(t, http.StatusCreated, &created)
	href := plane.KeysPath + "/" + created.Data.ID.String()
	if a.Header.Get("Location") != href || a.Header.Get("Cache-Control") != "no-store" || created.Links.Self.Href != href {
		t.Errorf("the answer is %v %s", a.Header, a.Body)
	}
	return created
}

// use has a key used, as far as the store knows.
func use(t *testing.T, p *plane.Plane, id store.ID) {
	t.Helper()
	if err := p.Keys.Store.RecordUse(t.Context(), []store.Use{{ID: id, At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
}

// records returns what the log has of an event of a key, the newest first, with the details.
func records(t *testing.T, p *plane.Plane, id store.ID, event store.AuditEvent) []map[string]any {
	t.Helper()
	page, err := p.Keys.AuditLog(t.Context(), admin.CLI(), &store.AuditQuery{Limit: 10, Key: id, Event: event})
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for _, record := range page.Records {
		var details map[string]any
		if err := json.Unmarshal(record.Details, &details); err != nil {
			t.Fatal(err)
		}
		all = append(all, details)
	}
	return all
}

// TestAKeyIsRotated tells the life of a key on each store: it gets a successor, another one
// since the first was never used, and none once that was used.
func TestAKeyIsRotated(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			root := p.ByKey(t, true)
			bot, _, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{
				Label: "bot", Permissions: []string{"bots:read", "bots:write"}, Networks: []string{"127.0.0.0/8", "::1"},
			})
			if err != nil {
				t.Fatal(err)
			}
			path := plane.KeysPath + "/" + bot.ID.String()
			first := rotated(t, root, path, "")
			second := rotated(t, root, path, `{"deadline":"2h","grace":"90m","now":false}`)
			for _, next := range []admin.KeyJSON{first.Data, second.Data} {
				if next.Label != "bot" || !slices.Equal(next.Permissions, bot.Permissions) || !slices.Equal(next.Networks, bot.Networks.Strings()) ||
					next.IsSystem || *next.Replaces != bot.ID || next.ReplacedBy != nil || *next.CreatedBy != root.ID || next.ExpiresAt != nil {
					t.Errorf("a successor is %+v", next)
				}
			}
			p.As(plane.Bearer(first.Data.Key)).Call(t, http.MethodGet, selfPath, "").Is(t, "the successor that was never used", http.StatusUnauthorized, "")
			var self, old plane.OneKey
			root.Call(t, http.MethodGet, path, "").Must(t, http.StatusOK, &old)
			if left := time.Until(*old.Data.ExpiresAt); *old.Data.ReplacedBy != second.Data.ID || left > 2*time.Hour || left < 119*time.Minute {
				t.Errorf("the old key is %+v", old.Data)
			}
			p.As(plane.Bearer(second.Data.Key)).Call(t, http.MethodGet, selfPath, "").Must(t, http.StatusOK, &self)
			second.Data.Key = ""
			self.Data.LastUsedAt = nil
			if diff := cmp.Diff(second.Data, self.Data); diff != "" {
				t.Error(diff)
			}
			use(t, p, second.Data.ID)
			refused := ask(t, root, http.MethodPost, path+"/rotate", "", http.StatusConflict, "conflict")
			if !strings.Contains(refusalOf(t, refused).Message, second.Data.ID.String()) {
				t.Errorf("the message is %s", refused.Body)
			}
			root.Call(t, http.MethodGet, path, "").Must(t, http.StatusOK, &old)
			if left := time.Until(*old.Data.ExpiresAt); left > 90*time.Minute || left < 89*time.Minute {
				t.Errorf("after the first use of the successor, the old key is %+v", old.Data)
			}
			created, ended := records(t, p, second.Data.ID, store.AuditCreated), records(t, p, first.Data.ID, store.AuditRevoked)
			if len(created) != 1 || created[0]["replaces"] != bot.ID.String() {
				t.Errorf("the record of the successor is %v", created)
			}
			if len(ended) != 1 || ended[0]["reason"] != "rotated" || ended[0]["replaced_by"] != second.Data.ID.String() {
				t.Errorf("the record of the successor that was never used is %v", ended)
			}
			if records(t, p, bot.ID, store.AuditRevoked) != nil {
				t.Error("the old key is said to be revoked")
			}
		})
	}
}

// TestAKeyIsRotatedAtOnce by REST and GraphQL: the old key is refused when the answer comes.
func TestAKeyIsRotatedAtOnce(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root := p.ByKey(t, true)
	byREST := func(id store.ID) string {
		return rotated(t, root, plane.KeysPath+"/"+id.String(), `{"now":true}`).Data.Key
	}
	byGraphQL := func(id store.ID) string {
		var answer struct {
			AdminRotateSystemKey struct{ Key, Replaces, CreatedBy string }
		}
		codes := root.GraphQL(t, `mutation($id: ID!) { adminRotateSystemKey(id: $id, now: true) { key replaces replacedBy createdBy } }`,
			map[string]any{"id": id.String()}, &answer)
		if a := answer.AdminRotateSystemKey; len(codes) > 0 || a.Replaces != id.String() || a.CreatedBy != root.ID {
			t.Errorf("got %v, %+v", codes, a)
		}
		return answer.AdminRotateSystemKey.Key
	}
	for name, rotate := range map[string]func(store.ID) string{"REST": byREST, "GraphQL": byGraphQL} {
		key, plain := p.Mint(t, name)
		next := rotate(key.ID)
		p.As(plane.Bearer(plain)).Call(t, http.MethodGet, selfPath, "").Is(t, name+": the old key", http.StatusUnauthorized, "")
		p.As(plane.Bearer(next)).Call(t, http.MethodGet, selfPath, "").Is(t, name+": the successor", http.StatusOK, `"replaces":"`+key.ID.String())
		if ended := records(t, p, key.ID, store.AuditRevoked); len(ended) != 1 || ended[0]["reason"] != "rotated" {
			t.Errorf("%s: the record is %v", name, ended)
		}
	}
}

func TestRotationIsRefused(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root := p.ByKey(t, true)
	bot, _ := p.Mint(t, "bot")
	ended := &store.Key{
		ID: store.ID{1}, Label: "ended", Hash: anyHash, Permissions: []string{},
		CreatedAt: time.Now().Add(-time.Hour).Truncate(time.Microsecond), CreatedBy: "cli", ExpiresAt: time.Now().Add(-time.Minute).Truncate(time.Microsecond),
	}
	if err := p.Keys.Store.CreateKey(t.Context(), ended, nil); err != nil {
		t.Fatal(err)
	}
	path := plane.KeysPath + "/" + bot.ID.String() + "/rotate"
	for body, want := range map[string]struct {
		status int
		code   string
		field  string
	}{
		`{"grace":"soon"}`:             {422, "validation_failed", "grace"},
		`{"grace":""}`:                 {422, "validation_failed", "grace"},
		`{"grace":"0s"}`:               {422, "validation_failed", "grace"},
		`{"deadline":"-7d"}`:           {422, "validation_failed", "deadline"},
		`{"deadline":"1.2.3d"}`:        {422, "validation_failed", "deadline"},
		`{"deadline":"300000000d"}`:    {422, "validation_failed", "deadline"},
		`{"grace":"1m59s"}`:            {422, "validation_failed", "grace"}, // the lease is two minutes
		`{"deadline":"119s"}`:          {422, "validation_failed", "deadline"},
		`{"now":true,"grace":"1h"}`:    {422, "validation_failed", "now"},
		`{"now":true,"deadline":"7d"}`: {422, "validation_failed", "now"},
		`{"grace":60}`:                 {400, "invalid_request", ""},
		`{"now":"true"}`:               {400, "invalid_request", ""},
		`{"label":"x"}`:                {400, "invalid_request", ""},
		`{"now":true,"now":false}`:     {400, "invalid_request", ""},
		`[]`:                           {400, "invalid_request", ""},
		` `:                            {400, "invalid_request", ""},
	} {
		a := ask(t, root, http.MethodPost, path, body, want.status, want.code)
		if want.field != "" && refusalOf(t, a).Fields[want.field] == "" {
			t.Errorf("%s: %s is not named in %s", body, want.field, a.Body)
		}
	}
	ask(t, root, http.MethodPost, plane.NobodyPath+"/rotate", "", http.StatusNotFound, "not_found")
	ask(t, root, http.MethodPost, plane.KeysPath+"/"+ended.ID.String()+"/rotate", "", http.StatusConflict, "conflict")
	ask(t, root, http.MethodGet, path, "", http.StatusMethodNotAllowed, "method_not_allowed")
	ask(t, root, http.MethodPost, selfPath, "{}", http.StatusMethodNotAllowed, "method_not_allowed")
	ask(t, root, http.MethodPost, path, "", http.StatusForbidden, "cross_origin", "Origin", "https://evil.example")
	ask(t, root, http.MethodPost, path, "grace=1h", http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type", "application/x-www-form-urlencoded")
	for _, spelling := range []string{"/self/", "/Self", "/%73elf", "/self/rotate/", "/self/activity", "/self/x", "//self", "/" + bot.ID.String() + "/rotate/x", "/" + bot.ID.String() + "/self"} {
		ask(t, root, http.MethodGet, plane.KeysPath+spelling, "", http.StatusNotFound, "not_found")
	}
	ask(t, root, http.MethodDelete, selfPath, "", http.StatusMethodNotAllowed, "method_not_allowed")
	for document, want := range map[string]string{
		`mutation { adminRotateSystemKey(id: "x") { key } }`:                                              "not_found",
		`mutation { adminRotateSystemKey(id: "` + bot.ID.String() + `", grace: "soon") { key } }`:         "validation_failed",
		`mutation { adminRotateSystemKey(id: "` + bot.ID.String() + `", grace: "1s") { key } }`:           "validation_failed",
		`mutation { adminRotateSystemKey(id: "` + ended.ID.String() + `") { key } }`:                      "conflict",
		`mutation { adminRotateSystemKey(id: "` + bot.ID.String() + `", now: null, grace: null) { id } }`: "",
	} {
		if codes := root.GraphQL(t, document, nil, nil); strings.Join(codes, " ") != want {
			t.Errorf("%s: %v", document, codes)
		}
	}
	if n := p.Total(t); n != 4 { // root, bot, its one successor, and the one that has ended
		t.Errorf("there are %d keys, not 4", n)
	}
}

// TestDurationsAreReadAsCaddyReadsThem, in the body of a rotation.
func TestDurationsAreReadAsCaddyReadsThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "1.5d": 36 * time.Hour, "2h30m": 150 * time.Minute, "12h1d": 36 * time.Hour,
	} {
		got, err := (&admin.RotateInput{Grace: &text}).Options()
		if err != nil || got.Grace != want {
			t.Errorf("%s is %v, %v", text, got.Grace, err)
		}
	}
}
