package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

const adminAPIDoc = "../docs/appendix/admin-api.md"

// transcript is made of calls by curl and what they got.
type transcript struct {
	t       *testing.T
	text    strings.Builder
	folder  string
	address string
	names   []string // what is replaced, and by what
	seen    map[string]string
}

// TestAdminAPITranscript makes every call of the admin plane with curl, and
// compares what it prints with the documentation. Run it with -update to write
// that.
func TestAdminAPITranscript(t *testing.T) {
	b := onSQLite(t)
	p := newPlane(t, b, "lease 2s\n")
	_, root, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "Root", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	_, limited := mint(t, p.Keys, "Dashboard", admin.PermissionRead, admin.PermissionCreate)
	token := p.Issuer.Token(map[string]any{"sub": "u-17", "name": "Grace", "permissions": []string{"audit-log:read"}})
	d := &transcript{
		t: t, folder: t.TempDir(), address: strings.TrimPrefix(p.URL, "http://"),
		names: []string{root, "$ADMIN_KEY", limited, "$DASHBOARD_KEY", token, "$JWT"},
		seen:  map[string]string{},
	}
	d.text.WriteString(transcriptHeading)

	d.section("Keys", "Mint one. The key is in this answer, and nowhere else, ever.")
	d.curl(root, `-d '{"label":"Twitch Bot Key","permissions":["bots:read","chat:write"]}'`, plane.KeysPath)
	bot := d.last(`"id":"([0-9a-f-]{36})"`)
	d.names = append(d.names, d.last(`"key":"(lm_sys_[0-9A-Za-z]{76})"`), "lm_sys_…")
	d.curl(root, `-d '{"label":"Importer","expires_at":"2099-12-31T00:00:00Z"}'`, plane.KeysPath)
	d.note("List them, a page at a time; `_links.next` is the next page.")
	d.curl(root, "", plane.KeysPath+"?limit=1&sort=label")
	d.curl(root, "", d.last(`"next":\{"href":"([^"]*)"`))
	d.curl(root, "", plane.KeysPath+"?q=twitch&unused_since=2026-01-01T00:00:00Z")
	d.note("Show one.")
	d.curl(root, "", plane.KeysPath+"/"+bot)
	d.note("Revoke it. The answer comes when no instance accepts the key any more; `-H 'Prefer: wait=5'` answers after five seconds with 202, without `revoked_at`, if some instance is still awaited.")
	d.curl(root, "-X DELETE", plane.KeysPath+"/"+bot)
	d.note("Again, it waits and answers as the first time, as long as the audit log knows the key.")
	d.curl(root, "-X DELETE", plane.KeysPath+"/"+bot)
	d.note("An id that nobody knows. Here too no instance accepts a key with this id when the answer comes.")
	d.curl(root, "-X DELETE", plane.KeysPath+"/0199d3f0-0000-7000-8000-000000000000")

	d.section("Rotation", "Replace a key by a successor. The old key ends an hour after the first use of it, and in seven days at the latest.")
	rotated, _ := mint(t, p.Keys, "Clip Bot")
	clips := rotated.ID.String()
	d.curl(root, "-X POST", plane.KeysPath+"/"+clips+"/rotate")
	d.note("Again, with other times. The first successor was never used, so it ends.")
	d.curl(root, `-d '{"grace":"90m","deadline":"14d"}'`, plane.KeysPath+"/"+clips+"/rotate")
	d.note("No time may be shorter than the longest lease.")
	d.curl(root, `-d '{"grace":"1s"}'`, plane.KeysPath+"/"+clips+"/rotate")
	d.note("A key that holds system-keys:rotate rotates itself, here at once. Every key may ask who it is.")
	_, itself := mint(t, p.Keys, "Self", admin.PermissionRotate)
	d.names = append(d.names, itself, "$BOT_KEY")
	d.curl(itself, "", plane.KeysPath+"/self")
	d.curl(itself, `-d '{"now":true}'`, plane.KeysPath+"/self/rotate")
	d.note("Revoke a key. A successor that another key has minted is accepted still, and named.")
	d.curl(root, "-X DELETE", plane.KeysPath+"/"+clips)

	d.section("Audit log", "Every filter may be combined with the others: `key_id`, `label`, `event`, `actor`, `since`, `until`. The newest record comes first.")
	d.curl(root, "", plane.AuditPath+"?key_id="+bot)
	d.curl(root, "", plane.AuditPath+"?event=api_key.created&limit=1")
	d.note("A person, by a token: `Bearer lm_` and a JWT.")
	d.curl("lm_"+token, "", plane.AuditPath+"?label=Importer")

	d.section("GraphQL", "One document; of several operations, `operationName` says which is meant. What fails of it has its code in `extensions`.")
	d.curl(root, `-d '{"query":"{ adminSystemKeys(limit: 1, sort: \"label\") { data { id label permissions } total next } }"}'`, admin.GraphQLPath)
	d.curl(root, `-d '{"query":"mutation($in: CreateSystemKeyInput!) { adminCreateSystemKey(input: $in) { id label } }","variables":{"in":{"label":"From GraphQL"}}}'`, admin.GraphQLPath)
	made := d.last(`"id":"([0-9a-f-]{36})"`)
	d.curl(root, fmt.Sprintf(`-d '{"query":"{ adminAuditLog(keyId: \"%s\") { data { event actor { type label } key { label } } total } }"}'`, made), admin.GraphQLPath)
	d.curl(root, fmt.Sprintf(`-d '{"query":"mutation { adminDeleteSystemKey(id: \"%s\") { label instances { total acknowledged } requestsCut } }"}'`, made), admin.GraphQLPath)
	d.curl(limited, fmt.Sprintf(`-d '{"query":"mutation { adminDeleteSystemKey(id: \"%s\") { label } }"}'`, made), admin.GraphQLPath)

	d.section("Errors", "All have one form. `request_id` is the one in the access log.")
	d.curl("", "", plane.KeysPath)
	d.curl(limited, "", plane.AuditPath)
	d.curl(limited, `-d '{"label":"x","permissions":["bots:write"]}'`, plane.KeysPath)
	d.curl(root, `-d '{"label":"x","name":"y"}'`, plane.KeysPath)
	d.curl(root, `-d '{"label":"","permissions":["bots:*"]}'`, plane.KeysPath)
	d.curl(root, "", plane.KeysPath+"?limit=1000")
	d.curl(root, "-X PATCH -d '{}'", plane.KeysPath)
	d.curl(root, "-H 'Content-Type: text/plain' -d 'label=x'", plane.KeysPath)
	d.curl(root, "-H 'Accept: text/html'", plane.KeysPath)
	d.curl(root, "-H 'Origin: https://evil.example' -d '{\"label\":\"x\"}'", plane.KeysPath)

	d.section("Descriptions", "Open to all.")
	d.head(plane.OpenAPIPath)
	d.head(admin.SchemaPath)

	if *update {
		if err := os.WriteFile(adminAPIDoc, []byte(d.text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(adminAPIDoc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), d.text.String()); diff != "" {
		t.Errorf("docs/appendix/admin-api.md is not what was measured (-file +measured); -update writes it:\n%s", diff)
	}
}

const transcriptHeading = `# The admin plane, call by call

Generated by ` + "`go test ./integration -run TestAdminAPITranscript -update`" + `, which makes these calls with curl. Ids, times and keys
are replaced by names, and what every answer has is left out (Date, Server, Content-Length). ` + "`$ADMIN_KEY`" + ` is a system
admin; ` + "`$DASHBOARD_KEY`" + ` holds system-keys:read and system-keys:create; ` + "`$JWT`" + ` is the token of a person who holds
audit-log:read; ` + "`$BOT_KEY`" + ` holds system-keys:rotate. The same in the form of a machine: ` + "`/v1/admin/system-keys/openapi.json`" + ` and
` + "`/v1/admin/system-keys/schema.graphql`" + `.
`

func (d *transcript) section(title, text string) {
	fmt.Fprintf(&d.text, "\n## %s\n\n%s\n", title, text)
}

func (d *transcript) note(text string) { fmt.Fprintf(&d.text, "\n%s\n", text) }

// curl makes one call. What it is given is what the reader sees.
func (d *transcript) curl(credential, arguments, path string) {
	d.t.Helper()
	var line []string
	if credential != "" {
		line = append(line, `-H "Authorization: Bearer `+credential+`"`)
	}
	if strings.Contains(arguments, "-d ") && !strings.Contains(arguments, "Content-Type") {
		line = append(line, "-H 'Content-Type: application/json'")
	}
	if arguments != "" {
		line = append(line, arguments)
	}
	d.run(strings.Join(append(line, "'https://api.example.com"+path+"'"), " "))
}

func (d *transcript) head(path string) { d.run("--head 'https://api.example.com" + path + "'") }

func (d *transcript) run(arguments string) {
	d.t.Helper()
	output := filepath.Join(d.folder, "output")
	script := "curl -sS -i " + strings.ReplaceAll(arguments, "https://api.example.com", "http://"+d.address)
	cmd := exec.CommandContext(d.t.Context(), "sh", "-c", script+" > "+output)
	cmd.Env = append(os.Environ(), "NO_PROXY=*", "CURL_HOME="+d.folder)
	if text, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v %s", script, err, text)
	}
	text, err := os.ReadFile(output)
	if err != nil {
		d.t.Fatal(err)
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n\n")
	d.seen["last"] = body
	var lines []string
	for line := range strings.Lines(head) {
		name, _, _ := strings.Cut(line, ":")
		if !slices.Contains([]string{"Date", "Server", "Content-Length", "X-Content-Type-Options"}, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	shown := fmt.Sprintf("    $ curl -i %s\n    %s", arguments, strings.Join(lines, "\n    "))
	if body = strings.TrimSpace(body); body != "" {
		shown += "\n\n    " + strings.ReplaceAll(body, "\n", "\n    ")
	}
	fmt.Fprintf(&d.text, "\n%s\n", d.hide(shown))
}

// last is what a pattern finds in the last answer.
func (d *transcript) last(pattern string) string {
	d.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(d.seen["last"])
	if found == nil {
		d.t.Fatalf("no %s in %s", pattern, d.seen["last"])
	}
	return found[1]
}

var (
	plainKeys = regexp.MustCompile(`lm_sys_[0-9A-Za-z]{76}`)
	uuids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	instants  = regexp.MustCompile(`202[0-9]-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`)
	cursors   = regexp.MustCompile(`(cursor=|"next":")[A-Za-z0-9_-]{40,}`)
)

// hide puts names in the place of what is different in every run.
func (d *transcript) hide(text string) string {
	text = strings.NewReplacer(d.names...).Replace(text)
	text = plainKeys.ReplaceAllString(text, "lm_sys_…")
	text = cursors.ReplaceAllString(text, "${1}aT0w…")
	text = uuids.ReplaceAllStringFunc(text, func(id string) string {
		if id[14] == '4' {
			return "…" // of a request
		}
		if d.seen[id] == "" {
			d.seen[id] = fmt.Sprintf("0199d3f0-0000-7000-8000-%012d", len(d.seen))
		}
		return d.seen[id]
	})
	return instants.ReplaceAllStringFunc(text, func(at string) string {
		if strings.HasPrefix(at, "2026-01-01") {
			return at // it was asked for
		}
		return "2026-11-23T12:00:00Z"
	})
}
