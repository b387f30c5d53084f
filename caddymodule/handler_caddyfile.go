package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A directive cannot be ordered after another plugin's, so both are registered
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
	handler := new(Admin)
	return handler, parseDirective(h, handler)
}

// parseDirective reads a directive, and refuses it where the Caddyfile has no
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
	return h.WrapErr(errNoApp)
}

// UnmarshalCaddyfile sets up the handler from a directive. Syntax:
//
//	system_key_auth [<matcher>] {
//		passthrough
//		require <permission>...
//		header_prefix <prefix>
//		keep_credential
//		assertion <audience> {
//			issuer <issuer>
//			ttl <duration>
//			unbound
//		}
//		failure_limit <count> <window>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return eachOption(d, func(name string) error {
		if err := h.unmarshalOption(d, name); err != nil {
			return err
		}
		// Everything is checked where it stands, so that the error names the line.
		_, err := h.newGate()
		return wrap(d, err)
	})
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "passthrough":
		h.Passthrough = true
		return noArgs(d)
	case "keep_credential":
		h.KeepCredential = true
		return noArgs(d)
	case "require":
		if h.Require = d.RemainingArgs(); len(h.Require) == 0 {
			return d.ArgErr()
		}
		return nil
	case "assertion":
		h.Assertion = new(Assertion)
		return h.Assertion.unmarshal(d)
	case "header_prefix":
		if !d.AllArgs(&h.HeaderPrefix) {
			return d.ArgErr()
		}
		return nil
	case "failure_limit":
		return h.unmarshalFailureLimit(d)
	default:
		return d.Errf("unrecognized subdirective %q", name)
	}
}

func (h *Handler) unmarshalFailureLimit(d *caddyfile.Dispenser) error {
	var count, window string
	if !d.AllArgs(&count, &window) {
		return d.ArgErr()
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return d.Errf("failure_limit: the count must be a number, not %q", count)
	}
	length, err := caddy.ParseDuration(window)
	if err != nil {
		return d.Errf("failure_limit: the window must be a duration such as 1m, not %q", window)
	}
	h.FailureLimit = &FailureLimit{Count: n, Window: caddy.Duration(length)}
	return wrap(d, h.FailureLimit.check())
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
