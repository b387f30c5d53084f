package caddymodule

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// TrustAuthUser takes the word of an authentication handler that ran before: who
// it has let through is `{http.auth.user.id}`, and what that user may do is what
// placeholders of the same handler say. Values that a client could write
// (`{http.request.…}`) are refused.
type TrustAuthUser struct {
	// What the user holds, separated by commas or blanks, such as
	// `{http.auth.user.permissions}`.
	Permissions string `json:"permissions,omitempty"`

	// Makes a system admin if it is exactly `true`.
	System string `json:"system,omitempty"`
}

func (t *TrustAuthUser) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var value *string
		switch d.Val() {
		case "permissions":
			value = &t.Permissions
		case "system":
			value = &t.System
		default:
			return d.Errf("trust_auth_user: unrecognized option %q", d.Val())
		}
		if *value != "" {
			return d.Errf("%s is already specified", d.Val())
		}
		if !d.AllArgs(value) {
			return d.ArgErr()
		}
	}
	return wrap(d, t.check())
}

func (t *TrustAuthUser) check() error {
	if t.Permissions == "" && t.System == "" {
		return errors.New("trust_auth_user: permissions or system is needed: without either nobody may do anything")
	}
	for _, value := range []string{t.Permissions, t.System} {
		if strings.Contains(value, "{http.request.") {
			return errors.New("trust_auth_user: what a client can write ({http.request.…}) is nobody's word")
		}
	}
	return nil
}

// person is the user of the request, or nil. It is called only where no handler
// of ours has let the request through, so that the user is not a system key.
func (t *TrustAuthUser) person(r *http.Request) *admin.Person {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	id, _ := repl.GetString("http.auth.user.id")
	if id == "" || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) { // what no store can keep is nobody
		return nil
	}
	return &admin.Person{
		ID:          id,
		Permissions: strings.FieldsFunc(repl.ReplaceAll(t.Permissions, ""), func(c rune) bool { return c == ',' || c == ' ' }),
		IsSystem:    repl.ReplaceAll(t.System, "") == "true",
	}
}
