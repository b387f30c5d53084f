package adminplane

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// Package caddymodule does the same, and imports this one.
func init() {
	httpcaddyfile.RegisterHandlerDirective("system_keys_admin", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		a := new(Admin)
		return a, a.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("system_keys_admin", httpcaddyfile.After, "basic_auth")
}

// TestWhatAClientMayFillIsNobodysWord gives it for permissions and for system, as a
// Caddyfile has it and as JSON has it.
func TestWhatAClientMayFillIsNobodysWord(t *testing.T) {
	t.Parallel()
	refused := []string{
		"{header.X-Permissions}", "{http.request.header.X-Permissions}", "{query.p}", "{http.request.uri.query.p}", "{cookie.p}", "{path}", "{path.0}", "{uri}", "{?query}",
		"{host}", "{labels.0}", "{method}", "{remote_host}", "{client_ip}", "{uuid}", "{vars.x}", "{http.vars.x}", "{http.vars.}", "{re.name.1}", "{re.1}", "{http.regexp.name.1}",
		"{rp.header.X}", "{http.reverse_proxy.header.X}", "{resp.header.X}", "{http.intercept.header.X}", "{err.message}", "{http.error.message}", "{file_match.relative}",
		"{http.matchers.file.relative}", "{tls_client_subject}", "{http.request.tls.client.subject}", "{env.X}", "{file./etc/x}", "{file.x}", "{system.hostname}", "{time.now}",
		"{http.auth.user.}", "{http.auth.user}", "{http.auth.users.x}", "{http.auth.}", "{ http.auth.user.id}", "{my.permissions}", "{a b}", "{}", "{", "}", "{{vars}}",
		"{http.auth.user.permissions},{http.vars.x}", "{permissions} {query.p}", "{x{http.vars.y}}", `\{http.vars.x\}`, `{http.vars.x\}}`, "{permissions", "system-keys:read {http.vars.x",
	}
	for _, value := range refused {
		for _, trust := range []TrustAuthUser{{Permissions: value}, {System: value}} {
			if trust.check() == nil && !mapHandlerSets.MatchString(value) {
				t.Errorf("%q is taken from JSON", value)
			}
		}
		for _, option := range []string{"permissions", "system"} {
			text := ":80 {\n\tsystem_keys_admin {\n\t\ttrust_auth_user {\n\t\t\t" + option + " `" + value + "`\n\t\t}\n\t}\n}\n"
			_, _, err := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
			if err == nil || !strings.Contains(err.Error(), "Caddyfile:4") {
				t.Errorf("%s %q in a Caddyfile: %v", option, value, err)
			}
		}
	}
	for _, value := range []string{
		"{http.auth.user.permissions}", "{http.auth.user.realm.roles-of}", "{admin_permissions}", "{http.auth.user.permissions},{more}", "system-keys:read, audit-log:read", "true",
	} {
		if err := (&TrustAuthUser{Permissions: value, System: value}).check(); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// TestWhatNoMapSetsIsNobodysWord looks at the routes of a whole configuration.
func TestWhatNoMapSetsIsNobodysWord(t *testing.T) {
	const site = "{\n\tsystem_keys\n\tadmin off\n\tpersist_config off\n\tauto_https off\n}\n"
	admin := func(name string) string {
		return "system_keys_admin {\ntrust_auth_user {\npermissions " + name + "\n}\n}\n"
	}
	for name, test := range map[string]struct {
		caddyfile string
		good      bool
	}{
		"a map of the site":      {":80 {\nmap {http.auth.user.id} {may} {\nada a:b\n}\n" + admin("{may}") + "}", true},
		"the second of two":      {":80 {\nmap {http.auth.user.id} {x} {may} {\nada a:b c:d\n}\n" + admin("{may}") + "}", true},
		"in a route of a route":  {":80 {\nhandle /a/* {\nroute {\nmap {http.auth.user.id} {may} {\nada a:b\n}\n" + admin("{may}") + "}\n}\n}", true},
		"in a route with a name": {"&(maps) {\nmap {http.auth.user.id} {may} {\nada a:b\n}\n}\n:80 {\nroute {\ninvoke maps\n" + admin("{may}") + "}\n}", true},
		"in an error route":      {":80 {\nhandle_errors {\nmap {http.auth.user.id} {may} {\nada a:b\n}\n" + admin("{may}") + "}\n}", true},
		"no map":                 {":80 {\n" + admin("{may}") + "}", false},
		"another name":           {":80 {\nmap {http.auth.user.id} {may_not} {\nada a:b\n}\n" + admin("{may}") + "}", false},
		"a variable":             {":80 {\nvars may a:b\n" + admin("{may}") + "}", false},
		"the user's own":         {":80 {\n" + admin("{http.auth.user.may}") + "}", true},
	} {
		t.Run(name, func(t *testing.T) {
			adapter := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}
			config, _, err := adapter.Adapt([]byte(site+test.caddyfile), map[string]any{"filename": "Caddyfile"})
			if err != nil {
				t.Fatal(err)
			}
			var parsed caddy.Config
			if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
				t.Fatal(err)
			}
			ctx, err := caddy.ProvisionContext(&parsed)
			if err != nil {
				t.Fatal(err)
			}
			trust := TrustAuthUser{Permissions: "{may}"}
			if strings.Contains(test.caddyfile, "http.auth.user.may") {
				trust.Permissions = "{http.auth.user.may}"
			}
			if err := trust.checkMaps(ctx); (err == nil) != test.good {
				t.Errorf("got %v", err)
			}
		})
	}
}
