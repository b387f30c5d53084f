package caddymodule

import (
	"errors"
	"net/http"
	"strings"

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
	err := inBlock(d, func(name string) error {
		value, ok := map[string]*string{"permissions": &t.Permissions, "system": &t.System}[name]
		switch {
		case !ok:
			return d.Errf("trust_auth_user: unrecognized option %q", name)
		case !d.AllArgs(value):
			return d.ArgErr()
		}
		return nil
	})
	if err != nil {
		return err
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
	if id == "" {
		return nil
	}
	return &admin.Person{
		ID:          id,
		Permissions: strings.FieldsFunc(repl.ReplaceAll(t.Permissions, ""), func(c rune) bool { return c == ',' || c == ' ' }),
		IsSystem:    repl.ReplaceAll(t.System, "") == "true",
	}
}
