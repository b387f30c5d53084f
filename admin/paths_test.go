package admin_test

import (
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

func TestEverySpellingOfOurPathsIsOurs(t *testing.T) {
	t.Parallel()
	h, without := admin.NewHandler(admin.Config{Page: "/system"}), admin.NewHandler(admin.Config{})
	for path, want := range map[string]bool{
		"/v1/admin/system-keys":                        true,
		"/v1/admin/system-keys/x":                      true,
		"/v1/admin/system-keys/":                       true,
		"//v1///admin/./system-keys":                   true,
		"/x/../v1/admin/system-keys":                   true,
		"/V1/ADMIN/SYSTEM-KEYS":                        true,
		"/v1/admin%2fsystem-keys":                      true,
		"/v1/admin%252fsystem-keys":                    true,
		`\v1\admin\system-keys`:                        true,
		`/v1/admin/system-keys/..\..\x`:                true,
		"/v1/admin/system-keys/x/%2e%2e/%2e%2e/%2e%2e": true,
		"/v1/admin/system-keys;x=1":                    true,
		"/v1;a=b/admin/system-keys/x":                  true,
		"/v1/admin/system-keys ":                       true,
		"/v1/admin/system-keys\x00.json":               true,
		"/v1/admin/audit-log":                          true,
		"/v1/admin/audit-log/":                         true,
		"/v1/admin/Audit-Log/x":                        true,
		"/v1//admin/audit%2dlog":                       true,
		"/v1/gql":                                      true,
		"/v1/gql/":                                     true,
		"/v1/./GQL":                                    true,
		"/v1%2fgql":                                    true,
		`/v1\gql;x`:                                    true,
		"/api/system-keys":                             true,
		"/api/system-keys/x/revoke":                    true,
		"/API/./system%2dkeys;a":                       true,
		"/v1/gql/x":                                    false,
		"/v1/gqlx":                                     false,
		"/v1/admin/audit-logs":                         false,
		"/":                                            false,
		"":                                             false,
		"*":                                            false,
		"/v1/admin":                                    false,
		"/v1/admin/system-keysmith":                    false,
		"/v1/admin/system-key":                         false,
		"/files/v1/admin/system-keys":                  false,
		"/v1/admin/system-keys/../users":               false,
		"/v1/admin/users?x=/v1/admin/system-keys":      false,

		"/100%": false,
	} {
		for _, h := range []*admin.Handler{h, without} {
			if got := h.Owns(path); got != want {
				t.Errorf("%q: %v", path, got)
			}
		}
	}
	for path, want := range map[string]bool{
		"/system": true, "/system/": true, "/System": true, "/x/../system/create": true, `/system\session`: true, "/%73ystem": true,
		"/systems": false, "/sys/tem": false, "/x/system": false,
	} {
		if got := h.Owns(path); got != want {
			t.Errorf("with the page, %q: %v", path, got)
		}
		if without.Owns(path) {
			t.Errorf("without the page, %q is ours", path)
		}
	}
}
