package caddymodule

import (
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
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

// Interface guard.
var _ caddyfile.Unmarshaler = (*Admin)(nil)
