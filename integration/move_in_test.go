package integration_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestImportedKeysThatOperatorsHoldAreGoodAtOnce imports a table, has its keys adopted by
// their text, and uses them. Nothing is searched for then.
func TestImportedKeysThatOperatorsHoldAreGoodAtOnce(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			b.keys(t) // which has migrated
			theirs := testenv.Database(t)
			const direct, searched, withheld = "lm_sys_direct.key", "lm_sys_searched-key", "lm_sys_nobody_has_given_us_this"
			conn, err := pgx.Connect(t.Context(), theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			_, err = conn.Exec(t.Context(), `
CREATE TABLE api_keys (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, key_hash text, scopes jsonb, created_at timestamptz DEFAULT now());
INSERT INTO api_keys (name, key_hash, scopes) VALUES ('direct', '`+hashOf(t, direct)+`', '["bots:read"]'),
	('searched', '`+hashOf(t, searched)+`', '[]'), ('withheld', '`+hashOf(t, withheld)+`', '[]')`)
			if err != nil {
				t.Fatal(err)
			}
			var id string
			if err := conn.QueryRow(t.Context(), "SELECT id::text FROM api_keys WHERE name = 'direct'").Scan(&id); err != nil {
				t.Fatal(err)
			}

			on := b.adoptKeys()
			config := filepath.Join(t.TempDir(), "Caddyfile")
			if err := os.WriteFile(config, []byte("{\nsystem_keys {\n"+on.options+"\n}\n}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			command := func(stdin string, args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), program(t), append([]string{"system-keys"}, args...)...)
				cmd.Env = append(os.Environ(), asCaddy+"=1", "THEIRS="+theirs)
				cmd.Stdin = strings.NewReader(stdin)
				output, err := cmd.CombinedOutput()
				if err != nil || strings.Contains(string(output), "lm_sys_") || strings.Contains(string(output), "$argon2") {
					t.Fatalf("%v: %v\n%s", args, err, output)
				}
				return string(output)
			}
			command("", "import", "--from", "{env.THEIRS}", "--table", "api_keys", "--map", "label=name,permissions=scopes", "--config", config)
			command(id+"\t"+direct+"\n"+searched+"\n", "adopt", "--yes", "--config", config)

			address := run(t, on, "system_key_auth\nreverse_proxy "+echo(t))
			status, _, body := get(t, "http://"+address, "Bearer "+direct)
			if status != http.StatusOK || !strings.Contains(body, "X-Lumio-Key-Id: "+id) || !strings.Contains(body, "X-Lumio-Permissions: bots:read") {
				t.Errorf("the key with an id got %d %s", status, body)
			}
			if status, _, body := get(t, "http://"+address, "Bearer "+searched); status != http.StatusOK || !strings.Contains(body, "X-Lumio-Key-Label: searched") {
				t.Errorf("the other key got %d %s", status, body)
			}
			if n := app.Stats().SearchRuns; n != 0 {
				t.Errorf("they were searched for, in %d computations", n)
			}
			if status, _, _ := get(t, "http://"+address, "Bearer "+withheld); status != http.StatusOK {
				t.Errorf("the key that a client alone has got %d", status)
			}
			if n := app.Stats().SearchRuns; n == 0 {
				t.Error("a key that nobody has adopted was not searched for")
			}
			if status, _, _ := get(t, "http://"+address, "Bearer lm_sys_nobody"); status != http.StatusUnauthorized {
				t.Errorf("nobody's key got %d", status)
			}
		})
	}
}
