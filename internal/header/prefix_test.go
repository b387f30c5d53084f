package header_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

func TestNewAcceptsPrefixOfOneApplication(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"X-Lumio-", "x-lumio-", "X-LUMIO-", "Lumio-Sys-", "X-Lumio-Edge-2-", "X-Real-Estate-"} {
		if _, err := header.New(prefix); err != nil {
			t.Errorf("New(%q): %v", prefix, err)
		}
	}
}

func TestNewRefusesPrefix(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, prefix, reason string
	}{
		{"that is empty", "", "empty"},
		{"without a hyphen at its end", "X-Lumio", "end with a hyphen"},
		{"of hyphens only", "--", "empty part"},
		{"that begins with a hyphen", "-Lumio-", "empty part"},
		{"with two hyphens in a row", "X--Lumio-", "empty part"},
		{"of one letter", "X-", "at least two"},
		{"of one part, which would own Content-Length", "Content-", "at least two"},
		{"of one part, which would own Accept-Encoding", "accept-", "at least two"},
		{"of one part, even an own one", "Lumio-", "at least two"},
		{"that would own X-Forwarded-For", "X-Forwarded-", "X-Forwarded-For"},
		{"that would own X-Forwarded-For, in another case", "x-FORWARDED-", "X-Forwarded-For"},
		{"that would own Sec-WebSocket-Key", "Sec-WebSocket-", "Sec-WebSocket-Key"},
		{"that would own a field of three parts", "X-HTTP-Method-", "X-HTTP-Method-Override"},
		{"with an underscore", "X_Lumio-", `'_'`},
		{"that ends with an underscore", "X-Lumio_", `'_'`},
		{"with a dot", "X-Lumio.", `'.'`},
		{"with a space", "X-Lumio -", `' '`},
		{"with a colon", "X-Lumio:-", `':'`},
		{"with a line break", "X-Lumio\r\n-", `'\r'`},
		{"with a byte beyond ASCII", "X-Lümio-", "only letters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			owner, err := header.New(tt.prefix)
			if !errors.Is(err, header.ErrPrefix) || owner != nil {
				t.Fatalf("New(%q) = %v, %v, want ErrPrefix", tt.prefix, owner, err)
			}
			if !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("New(%q): %v, want a mention of %q", tt.prefix, err, tt.reason)
			}
		})
	}
}
