package main

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(fields{})
	httpcaddyfile.RegisterHandlerDirective("bench_fields", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return fields{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_fields", httpcaddyfile.Before, "reverse_proxy")
}

// fields is the least that any handler does which tells the upstream who calls: it
// sets the four fields that system_key_auth sets, in place of Authorization, and
// checks nothing. What it costs is what they cost the proxy.
type fields struct{}

func (fields) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_fields", New: func() caddy.Module { return fields{} }}
}

var fieldValues = [4]struct {
	name   string
	values []string
}{
	{"X-Lumio-Auth-Type", []string{"system_key"}},
	{"X-Lumio-Key-Id", []string{"01890a5d-ac96-774b-bcce-b302099a8057"}},
	{"X-Lumio-Key-Label", []string{"bench"}},
	{"X-Lumio-Permissions", []string{"bots:read"}},
}

func (fields) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	delete(r.Header, "Authorization")
	for i := range fieldValues {
		r.Header[fieldValues[i].name] = fieldValues[i].values
	}
	return next.ServeHTTP(w, r)
}
