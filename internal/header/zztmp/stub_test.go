package integration_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

func init() {
	caddy.RegisterModule(new(stub))
	httpcaddyfile.RegisterHandlerDirective("system_key_auth", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		s := new(stub)
		h.Next()
		for h.NextBlock(0) {
			s.Mode += h.Val()
		}
		return s, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("system_key_auth", httpcaddyfile.After, "basic_auth")
	_ = caddyfile.Adapter{}
}

type stub struct{ Mode string }

func (*stub) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.stub", New: func() caddy.Module { return new(stub) }}
}

var stubOwner, _ = header.New("X-Lumio-")
var stubValues = header.Render("0197a1f2-3b4c-7d5e-8f60-718293a4b5c6", "Bot é 100%", []string{"bots:write", "bots:read"})

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	stubOwner.Strip(r)
	if err := header.CheckUpgrade(r); err != nil {
		w.WriteHeader(map[error]int{header.ErrConnect: 405, header.ErrUpgrade: 400}[err])
		return nil
	}
	if len(r.Header["Authorization"]) > 1 {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_request"`)
		w.WriteHeader(400)
		w.Write([]byte(`"invalid_request"`))
		return nil
	}
	if r.Header.Get("Authorization") == "" && s.Mode != "passthrough" {
		w.WriteHeader(401)
		return nil
	}
	if strings.Contains(r.Header.Get("Authorization"), "lm_sys_") {
		stubOwner.Inject(r.Header, &stubValues)
		if s.Mode != "keep_credential" {
			r.Header.Del("Authorization")
		}
	}
	return next.ServeHTTP(w, r)
}

func loadWithKey(t *testing.T, label string, permissions []string, global, sites string) (id, key string) {
	t.Helper()
	adapter := caddyconfig.GetAdapter("caddyfile")
	text := "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tgrace_period 1s\n\tlog {\n output discard\n}\n" + global + "\n}\n" + sites
	config, warnings, err := adapter.Adapt([]byte(text), nil)
	if err != nil {
		t.Fatal(err, warnings, text)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { caddy.Stop() })
	return "0197a1f2-3b4c-7d5e-8f60-718293a4b5c6", "lm_sys_x"
}
