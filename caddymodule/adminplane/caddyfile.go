package adminplane

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
)

// UnmarshalCaddyfile sets up the handler from a directive. Syntax:
//
//	system_keys_admin [<matcher>] {
//		ui off|<path>
//		base <path>
//		jwt {
//			jwks <url|file>
//			key <public key in PEM form, or secret>
//			algorithms <algorithm>...
//			issuer <issuer>
//			audience <audience>
//			permissions_claim <claim>
//			system_claim <claim>
//		}
//		trust_auth_user {
//			permissions <placeholder>
//			system <placeholder>
//		}
//		allowed_hosts <host>...
//		graphql_passthrough
//	}
func (a *Admin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return option.Block{
		"ui":                  option.Checked(option.Text(&a.UI), a.checkUI),
		"base":                option.Checked(option.Text(&a.Base), a.checkBase),
		"jwt":                 a.unmarshalJWT,
		"trust_auth_user":     a.unmarshalTrustAuthUser,
		"allowed_hosts":       option.Checked(option.List(&a.AllowedHosts), a.checkHosts),
		"graphql_passthrough": option.Flag(&a.GraphQLPassthrough),
	}.ReadDirective(d, "unrecognized subdirective %q")
}

func (a *Admin) unmarshalJWT(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	j := new(JWT)
	a.JWT = j
	err := option.Block{
		"jwks":              option.Text(&j.JWKS),
		"key":               option.Text(&j.Key),
		"algorithms":        option.List(&j.Algorithms),
		"issuer":            option.Text(&j.Issuer),
		"audience":          option.Text(&j.Audience),
		"permissions_claim": option.Text(&j.PermissionsClaim),
		"system_claim":      option.Text(&j.SystemClaim),
	}.Read(d, "jwt: unrecognized option %q")
	if err != nil {
		return err
	}
	return option.AtLine(d, j.config().Check())
}

func (a *Admin) unmarshalTrustAuthUser(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	t := new(TrustAuthUser)
	a.TrustAuthUser = t
	err := option.Block{
		"permissions": option.Checked(option.Text(&t.Permissions), t.checkPlaceholders),
		"system":      option.Checked(option.Text(&t.System), t.checkPlaceholders),
	}.Read(d, "trust_auth_user: unrecognized option %q")
	if err != nil {
		return err
	}
	return option.AtLine(d, t.check())
}

// check reports what is wrong with the settings, as far as that can be seen without
// resolving a placeholder.
func (a *Admin) check() error {
	errs := []error{a.checkHosts(), a.checkUI(), a.checkBase()}
	if a.JWT != nil {
		errs = append(errs, a.JWT.config().Check())
	}
	if a.TrustAuthUser != nil {
		errs = append(errs, a.TrustAuthUser.check())
	}
	return errors.Join(errs...)
}

func (a *Admin) checkHosts() error {
	for _, host := range a.AllowedHosts {
		if host == "" || strings.ContainsAny(host, "/*{}") || strings.Count(host, ":") == 1 {
			return errors.New("allowed_hosts: a host is a name or an address, without port and wildcard, not " + host)
		}
	}
	return nil
}

// uiOff is the value of `ui` for no System page.
const uiOff = "off"

// page returns the path of the System page, or nothing if there is no page.
func (a *Admin) page() string {
	switch a.UI {
	case "":
		return admin.DefaultPage
	case uiOff:
		return ""
	}
	return a.UI
}

// plainPath matches a path that no program spells differently, once it is clean.
var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// checkUI refuses a path that other programs may spell differently, and a path of an API.
func (a *Admin) checkUI() error {
	if a.UI == "" || a.UI == uiOff {
		return nil
	}
	if !plainPath.MatchString(a.UI) || path.Clean(a.UI) != a.UI {
		return fmt.Errorf("ui: off, or a path such as /system of letters, digits, and . _ ~ -, not %q", a.UI)
	}
	lower := strings.ToLower(a.UI)
	for _, taken := range []string{"/v1", "/api", "/.well-known"} {
		if lower == taken || strings.HasPrefix(lower, taken+"/") {
			return errors.New("ui: " + taken + " is for APIs: choose another path for the System page")
		}
	}
	return nil
}

// checkBase refuses a path that other programs may spell differently.
func (a *Admin) checkBase() error {
	if a.Base != "" && (!plainPath.MatchString(a.Base) || path.Clean(a.Base) != a.Base) {
		return fmt.Errorf("base: a path such as /lumio of letters, digits, and . _ ~ -, without a slash at the end, not %q", a.Base)
	}
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Admin)(nil)
