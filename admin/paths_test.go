package admin_test

import (
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

func TestEverySpellingOfOurPathsIsOurs(t *testing.T) {
	t.Parallel()
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
		if got := admin.Owns(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
