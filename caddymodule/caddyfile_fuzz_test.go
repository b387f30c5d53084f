package caddymodule_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/caddymodule"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/adminplane"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/match"
)

// FuzzCaddyfile reads whatever stands in our blocks. What is taken is JSON that
// the modules themselves take, strictly, and that is the same when it is written
// once more; what is not has an error, and no secret in it.
func FuzzCaddyfile(f *testing.F) {
	files, err := filepath.Glob("testdata/adapt/*.caddytest")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(content), separator)
		for i, name := range directives {
			if _, rest, found := strings.Cut(input, name+" {\n"); found {
				body, _, _ := strings.Cut(rest, "\n\t}\n")
				f.Add(byte(i), body)
			}
		}
	}
	for _, body := range []string{
		"swordfish", "require", "require a:b c:d a:b", "passthrough\nkeep_credential\npassthrough", "store sqlite a {\n}", "argon2id 1 1 1 1", "argon2id 99999999999999999999GiB 1 1",
		"redis redis://:password@h", "redis rediss://:password@h {\nca a\ncert a b\ntimeout 1s\n}", "secret a-secret", "secret", "store postgres postgres://u:password@h:x/y", "lease 1ns", "hash_memory -1", "\"", "`", "{", "}", "\\", "jwt {\nkey a-secret\n}",
		"trust_auth_user {\npermissions {http.request.header.X}\n}", "allowed_hosts", "ui off", "failure_limit 0 0s", "failure_limit 1 1h",
		"permission a:b\nany_permission c:d e:f", "label a* b", "label *", "label a*b", "id 0199D3F0-0000-7000-8000-000000000001",
	} {
		for i := range directives {
			f.Add(byte(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, number byte, body string) {
		if strings.Contains(body, "import") || strings.Contains(body, "{$") {
			return // files and variables of this machine
		}
		name := directives[int(number)%len(directives)]
		const secret = "swordfish"
		guarded := name == "system_keys" && !strings.ContainsAny(body, "\"`\\<{}") && !strings.Contains(body, secret)
		if guarded { // where only an option that is a secret can take it
			body = "secret " + secret + "\n" + body
		}
		tokens, err := caddyfile.Tokenize([]byte(name+" {\n"+body+"\n}\n"), "Caddyfile")
		if err != nil {
			return
		}
		module := newModule(name)
		if err := module.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			if guarded && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		var warnings []caddyconfig.Warning
		text := caddyconfig.JSON(module, &warnings)
		if len(warnings) > 0 {
			t.Fatalf("%q: %v", body, warnings)
		}
		again := newModule(name)
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(again); err != nil {
			t.Fatalf("%q became %s: %v", body, text, err)
		}
		if twice := caddyconfig.JSON(again, nil); string(twice) != string(text) {
			t.Errorf("%q became %s, and then %s", body, text, twice)
		}
	})
}

var directives = []string{"system_keys", "system_key_auth", "system_keys_admin", "system_key"}

func newModule(name string) caddyfile.Unmarshaler {
	switch name {
	case "system_keys":
		return new(app.App)
	case "system_key_auth":
		return new(caddymodule.Handler)
	case "system_key":
		return new(match.SystemKey)
	}
	return new(adminplane.Admin)
}
