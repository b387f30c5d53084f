package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// UnmarshalCaddyfile sets up the handler from a directive. Syntax:
//
//	system_keys_admin [<matcher>] {
//		ui off|<path>
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
	return eachOption(d, func(name string) error { return a.unmarshalOption(d, name) })
}

func (a *Admin) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "ui":
		if !d.AllArgs(&a.UI) || a.UI == "" {
			return d.ArgErr()
		}
		return wrap(d, a.checkUI())
	case "jwt":
		a.JWT = new(JWT)
		return a.JWT.unmarshal(d)
	case "trust_auth_user":
		a.TrustAuthUser = new(TrustAuthUser)
		return a.TrustAuthUser.unmarshal(d)
	case "allowed_hosts":
		if a.AllowedHosts = d.RemainingArgs(); len(a.AllowedHosts) == 0 {
			return d.ArgErr()
		}
		return wrap(d, a.checkHosts())
	case "graphql_passthrough":
		a.GraphQLPassthrough = true
		return noArgs(d)
	default:
		return d.Errf("unrecognized subdirective %q", name)
	}
}

// check reports what is wrong with the settings, as far as that can be seen
// without resolving a placeholder.
func (a *Admin) check() error {
	errs := []error{a.checkHosts(), a.checkUI()}
	if a.JWT != nil {
		config := a.JWT.config()
		errs = append(errs, config.Check())
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

// uiOff is the value of `ui` without a System page.
const uiOff = "off"

// page is the path of the System page, or empty if there is none.
func (a *Admin) page() string {
	switch a.UI {
	case "":
		return admin.DefaultPage
	case uiOff:
		return ""
	}
	return a.UI
}

var uiPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// checkUI refuses a path that is spelled differently by different readers, or that
// is somebody else's.
func (a *Admin) checkUI() error {
	if a.UI == "" || a.UI == uiOff {
		return nil
	}
	if !uiPath.MatchString(a.UI) || path.Clean(a.UI) != a.UI {
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

// forwardedTLS reports whether a proxy that is trusted (trusted_proxies) had the
// request by TLS.
func forwardedTLS(r *http.Request) bool {
	trusted, ok := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return ok && trusted && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Admin)(nil)
