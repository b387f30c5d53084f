package store

import (
	"fmt"
	"slices"
)

// Bounds of the permissions of one key. Together they keep the permissions header that an
// upstream receives under 8 KiB. Every common server accepts that.
const (
	// MaxPermissions is how many permissions one key may hold.
	MaxPermissions = 64
	// MaxPermission is the length of the longest permission, in bytes.
	MaxPermission = 100
)

// MaxGranted bounds the answer of [Store.Granted].
const MaxGranted = 500

// ValidPermission reports whether s has the form resource:action, each part
// one or more of a-z, 0-9 and hyphen. There are no wildcards.
func ValidPermission(s string) bool {
	if len(s) > MaxPermission {
		return false
	}
	colon := -1
	for i := range len(s) {
		switch c := s[i]; {
		case c == ':' && colon < 0:
			colon = i
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
		default:
			return false
		}
	}
	return colon > 0 && colon < len(s)-1
}

// CleanPermissions returns the permissions sorted and without duplicates, and never nil. The
// error is an [*InvalidError] for the field "permissions". It names the first permission
// that is not valid.
func CleanPermissions(permissions []string) ([]string, error) {
	clean := make([]string, 0, len(permissions))
	for _, p := range permissions {
		if !ValidPermission(p) {
			return nil, &InvalidError{
				Field:  "permissions",
				Reason: fmt.Sprintf("%.*q is not of the form resource:action (a-z, 0-9 and hyphen)", MaxPermission, p),
			}
		}
		clean = append(clean, p)
	}
	slices.Sort(clean)
	clean = slices.Compact(clean)
	if len(clean) > MaxPermissions {
		return nil, &InvalidError{
			Field:  "permissions",
			Reason: fmt.Sprintf("a key can hold %d permissions at most", MaxPermissions),
		}
	}
	return clean, nil
}
