package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// TrustAuthUser takes the word of an authentication handler that ran before. The user
// whom it has let through is `{http.auth.user.id}`. What that user may do is said by
// other placeholders of that handler (`{http.auth.user.…}`), or by those that a `map`
// handler of this configuration sets, such as `{admin_permissions}`. All others are
// refused: a client may fill `{http.request.…}`, `{http.vars.…}`, `{http.regexp.…}`,
// `{http.reverse_proxy.…}` and their like. A `map` must not hand on what a client has
// sent either: give it `{http.auth.user.id}` for its source.
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
		if _, err := trusted(*value); err != nil {
			return wrap(d, err)
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
		if _, err := trusted(value); err != nil {
			return err
		}
	}
	return nil
}

var (
	braces     = regexp.MustCompile(`\{[^{}]*\}`)
	ofAuthUser = regexp.MustCompile(`^\{http\.auth\.user\.[\w.-]+\}$`)
	// ofMap has no dot in it: those with one are of Caddy and of other modules.
	ofMap = regexp.MustCompile(`^\{[\w-]+\}$`)
)

// trusted returns the placeholders in a value that only a map handler can set. The
// error names one that is nobody's word.
func trusted(value string) (ofMaps []string, err error) {
	for _, placeholder := range braces.FindAllString(value, -1) {
		switch {
		case ofMap.MatchString(placeholder):
			ofMaps = append(ofMaps, placeholder)
		case !ofAuthUser.MatchString(placeholder):
			return nil, fmt.Errorf("trust_auth_user: %s is nobody's word, since a client may fill it: "+
				"only {http.auth.user.…} can be trusted, and what a map handler sets, such as {admin_permissions}", placeholder)
		}
	}
	if strings.ContainsAny(braces.ReplaceAllString(value, ""), `{}\`) {
		return nil, fmt.Errorf("trust_auth_user: the braces in %q are not those of placeholders", value)
	}
	return ofMaps, nil
}

// checkMaps refuses placeholders that no map handler of the configuration sets. It is
// called when the app starts: the routes are complete by then.
func (t *TrustAuthUser) checkMaps(ctx caddy.Context) error {
	module, err := ctx.AppIfConfigured("http")
	if err != nil {
		return fmt.Errorf("trust_auth_user: %w", err)
	}
	set := make(map[string]bool)
	for _, server := range module.(*caddyhttp.App).Servers {
		destinations(server.Routes, set)
		if server.Errors != nil {
			destinations(server.Errors.Routes, set)
		}
		for _, route := range server.NamedRoutes {
			destinations(caddyhttp.RouteList{*route}, set)
		}
	}
	for _, value := range []string{t.Permissions, t.System} {
		placeholders, _ := trusted(value) // was checked before
		for _, placeholder := range placeholders {
			if !set[placeholder] {
				return fmt.Errorf("trust_auth_user: no map handler sets %s", placeholder)
			}
		}
	}
	return nil
}

// destinations collects what the map handlers of routes set.
func destinations(routes caddyhttp.RouteList, set map[string]bool) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *maphandler.Handler:
				for _, name := range handler.Destinations { // without braces once it is provisioned
					set["{"+name+"}"] = true
				}
			case *caddyhttp.Subroute:
				destinations(handler.Routes, set)
				if handler.Errors != nil {
					destinations(handler.Errors.Routes, set)
				}
			}
		}
	}
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
