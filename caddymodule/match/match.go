// Package match selects requests by the system key that has sent them.
package match

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/caller"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func init() {
	caddy.RegisterModule(new(SystemKey))
}

// SystemKey matches requests by the system key that a handler before it has let
// through: `system_key_auth`, or Caddy's `authentication` with the provider `system_key`.
// If no such handler has let the request through, it does not match, whatever the client
// sends. So it does not match before that handler, behind `passthrough` without a key, and
// in an error route, until a handler there has verified the key anew.
//
// All fields that are set have to match, and one has to be set. No value may be empty or
// repeated.
//
// It is a function in CEL expressions, with the same names:
// `system_key({'permission': ['bots:read', 'bots:write'], 'label': 'Twitch*'})`.
type SystemKey struct {
	// Permissions that the key must hold, all of them.
	Permission []string `json:"permission,omitempty"`

	// Permissions of which the key must hold at least one.
	AnyPermission []string `json:"any_permission,omitempty"`

	// The key's id must be one of these.
	ID []string `json:"id,omitempty"`

	// The key's label must be one of these. If a value ends with `*`, the label must begin
	// with what stands before. So `*` alone matches every key. Upper and lower case differ.
	Label []string `json:"label,omitempty"`

	ids []store.ID
}

// CaddyModule returns the Caddy module information.
func (*SystemKey) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.system_key",
		New: func() caddy.Module { return new(SystemKey) },
	}
}

// Provision checks the settings.
func (m *SystemKey) Provision(caddy.Context) error {
	if m.Permission == nil && m.AnyPermission == nil && m.ID == nil && m.Label == nil {
		return errNoCondition
	}
	return m.check()
}

var errNoCondition = errors.New("system_key: say which keys, by permission, any_permission, id or label (for every key, label *)")

// check checks the values that are set, and parses the ids.
func (m *SystemKey) check() error {
	m.ids = nil
	for _, list := range []struct {
		name   string
		values []string
		check  func(value string) error
	}{
		{"permission", m.Permission, checkPermission},
		{"any_permission", m.AnyPermission, checkPermission},
		{"id", m.ID, m.addID},
		{"label", m.Label, checkLabelPattern},
	} {
		if list.values != nil && len(list.values) == 0 {
			return fmt.Errorf("system_key: %s: there is no value", list.name)
		}
		for i, value := range list.values {
			if slices.Contains(list.values[:i], value) {
				return fmt.Errorf("system_key: %s: %q is there twice", list.name, value)
			}
			if err := list.check(value); err != nil {
				return fmt.Errorf("system_key: %s: %w", list.name, err)
			}
		}
	}
	return nil
}

func checkPermission(value string) error {
	_, err := store.CleanPermissions([]string{value})
	return err
}

// addID parses an id. One id can be written in several ways.
func (m *SystemKey) addID(value string) error {
	id, err := store.ParseKeyID(value)
	if err != nil {
		return err
	}
	if slices.Contains(m.ids, id) {
		return fmt.Errorf("%s is there twice", id)
	}
	m.ids = append(m.ids, id)
	return nil
}

// checkLabelPattern refuses what no label can match.
func checkLabelPattern(value string) error {
	start, isPrefix := strings.CutSuffix(value, "*")
	if strings.Contains(start, "*") {
		return fmt.Errorf("%q: * can only be the last character", value)
	}
	label := start
	if isPrefix {
		label += "x" // the label goes on, so the prefix may end with white space
	}
	clean, err := store.CleanLabel(label)
	if err == nil && clean != label {
		return fmt.Errorf("%q: a label has no white space at its ends", value)
	}
	return err
}

// MatchWithError implements [caddyhttp.RequestMatcherWithError].
func (m *SystemKey) MatchWithError(r *http.Request) (bool, error) {
	identity := caller.Identity(r)
	return identity != nil && m.matches(identity), nil
}

func (m *SystemKey) matches(identity *verify.Identity) bool {
	for _, permission := range m.Permission {
		if !identity.Has(permission) {
			return false
		}
	}
	return (m.AnyPermission == nil || slices.ContainsFunc(m.AnyPermission, identity.Has)) &&
		(m.ids == nil || slices.Contains(m.ids, identity.ID)) &&
		(m.Label == nil || matchesLabel(m.Label, identity.Label))
}

func matchesLabel(patterns []string, label string) bool {
	for _, pattern := range patterns {
		start, isPrefix := strings.CutSuffix(pattern, "*")
		if label == start || isPrefix && strings.HasPrefix(label, start) {
			return true
		}
	}
	return false
}

// UnmarshalCaddyfile reads the matcher from a Caddyfile. Syntax:
//
//	system_key {
//		permission <permission>...
//		any_permission <permission>...
//		id <id>...
//		label <label>|<prefix>*...
//	}
func (m *SystemKey) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	err := option.Block{
		"permission":     option.Checked(option.List(&m.Permission), m.check),
		"any_permission": option.Checked(option.List(&m.AnyPermission), m.check),
		"id":             option.Checked(option.List(&m.ID), m.check),
		"label":          option.Checked(option.List(&m.Label), m.check),
	}.ReadDirective(d, "unrecognized subdirective %q")
	if err != nil {
		return err
	}
	if err := m.Provision(caddy.Context{}); err != nil {
		return d.WrapErr(err)
	}
	if d.Next() { // Caddy hands over all that stand in one set
		return d.Err("system_key is there twice: put all conditions into one block")
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner                 = (*SystemKey)(nil)
	_ caddyfile.Unmarshaler             = (*SystemKey)(nil)
	_ caddyhttp.RequestMatcherWithError = (*SystemKey)(nil)
)
