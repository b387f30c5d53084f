package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

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
