// Package request reads what Caddy knows of a request, and adds fields to its line in the
// access log.
package request

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ForAudit describes a request with the method and the path that its client has sent,
// before any rewrite.
func ForAudit(r *http.Request) store.AuditRequest {
	method, sent := Original(r)
	return store.AuditRequest{
		ID: ID(r), Method: method, Path: token.Redact(sent.EscapedPath()), ClientIP: ClientIP(r),
	}
}

// Original returns the request line as the client has sent it.
func Original(r *http.Request) (method string, target *url.URL) {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		return o.Method, o.URL
	}
	return r.Method, r.URL
}

// ID returns Caddy's {http.request.uuid}, which the access log has too.
func ID(r *http.Request) string {
	repl := Replacer(r)
	if repl == nil {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}

// ClientIP returns Caddy's {client_ip}. The server's trusted_proxies decide whether it comes
// from a header. It is empty if Caddy has found no address.
func ClientIP(r *http.Request) string {
	ip, _ := Vars(r)[caddyhttp.ClientIPVarKey].(string)
	return ip
}

// FromTrustedProxy reports whether the client is one of Caddy's trusted_proxies.
func FromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// LogRefusal adds to the access log why a request was refused or cut, in one word, the id of
// its key if that is known, and the id of the request, which the answer and the audit log have
// too.
func LogRefusal(r *http.Request, reason gate.Reason, key store.ID) {
	LogField(r, "system_key_refused", string(reason))
	if key != (store.ID{}) {
		LogField(r, "system_key_id", key.String())
	}
	ID(r) // Caddy adds it to the access log once somebody asks for it
}

// LogField adds a field to the access log, if the request's server has one: the field
// costs half as much as the check of a key.
func LogField(r *http.Request, name, value string) {
	ctx := r.Context()
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil && server.Logs == nil {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String(name, value))
	}
}

// Vars returns the variables of a request, or nil outside of Caddy. The handler looks them
// up once, as each lookup walks through the contexts of the request.
func Vars(r *http.Request) map[string]any {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	return vars
}

// Replacer returns the replacer of a request, or nil outside of Caddy.
func Replacer(r *http.Request) *caddy.Replacer {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl
}
