// Package caddymodule connects caddy-system-keys to Caddy. It has the handler `system_key_auth`
// and the provider `system_key`, and it brings in the modules of the packages below it. They map
// and wire. The packages that decide are others, and do not know Caddy: package admin, and those
// below internal and store. The command line is package command.
//
//   - app is the app `system_keys`. source says where its data is. control serves its state on
//     Caddy's admin endpoint.
//   - request and caller are what handlers know of a request, and of who has sent it. answer
//     has the answers that they give themselves. signing signs for the upstream.
//   - adminplane is the admin plane, match the matcher, and redact takes keys out of logs.
//   - option reads the options of a Caddyfile. resolve replaces placeholders.
//
// Here, handler.go and passage.go follow a request, and authenticator.go is the provider.
// failures.go counts bad keys. reached.go finds handlers that get no request.
package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/adminplane"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule/control" // modules that no other package needs
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule/match"
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule/redact"
)

// A directive cannot be ordered after another plugin's. So both directives are registered
// here: each lands directly behind basic_auth, the later one before the earlier.
func init() {
	httpcaddyfile.RegisterHandlerDirective("system_key_auth", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("system_key_auth", httpcaddyfile.After, "basic_auth")
	httpcaddyfile.RegisterHandlerDirective("system_keys_admin", parseAdmin)
	httpcaddyfile.RegisterDirectiveOrder("system_keys_admin", httpcaddyfile.After, "basic_auth")
}

func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, parseDirective(h, handler)
}

func parseAdmin(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(adminplane.Admin)
	return handler, parseDirective(h, handler)
}

// parseDirective reads a directive. It refuses the directive if the Caddyfile has no
// global option system_keys. Caddy reads global options before any directive.
func parseDirective(h httpcaddyfile.Helper, handler caddyfile.Unmarshaler) error {
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return err
	}
	if h.Option("system_keys") != nil {
		return nil
	}
	h.Reset()
	h.Next() // to the directive's name, for its line
	return h.WrapErr(app.ErrNotConfigured)
}
