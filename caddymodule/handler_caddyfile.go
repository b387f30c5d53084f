package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/signing"
)

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
//			secret <value>...
//		}
//		failure_limit <count> <window>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	check := func() error {
		_, err := h.newGate()
		return err
	}
	return option.Block{
		"passthrough":     option.Checked(option.Flag(&h.Passthrough), check),
		"require":         option.Checked(option.List(&h.Require), check),
		"header_prefix":   option.Checked(option.Text(&h.HeaderPrefix), check),
		"keep_credential": option.Flag(&h.KeepCredential),
		"assertion":       h.unmarshalAssertion,
		"failure_limit":   h.unmarshalFailureLimit,
	}.ReadDirective(d, "unrecognized subdirective %q")
}

func (h *Handler) unmarshalAssertion(d *caddyfile.Dispenser) error {
	a := new(signing.Assertion)
	h.Assertion = a
	if !d.AllArgs(&a.Audience) {
		return d.ArgErr()
	}
	ttl := func(d *caddyfile.Dispenser) error {
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		ttl, err := caddy.ParseDuration(text)
		if err != nil {
			return d.Errf("assertion: ttl: %v", err)
		}
		if a.TTL = caddy.Duration(ttl); ttl == 0 {
			return d.Errf("assertion: ttl must be whole seconds, not 0")
		}
		return option.AtLine(d, a.Check())
	}
	err := option.Block{
		"issuer":  option.Text(&a.Issuer),
		"ttl":     ttl,
		"unbound": option.Flag(&a.Unbound),
		"secret":  option.List(&a.Secret),
	}.Read(d, "assertion: unrecognized option %q", "secret")
	if err != nil {
		return err
	}
	return option.AtLine(d, a.Check())
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
	return option.AtLine(d, h.FailureLimit.check())
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
