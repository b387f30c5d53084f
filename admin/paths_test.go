package admin_test

import (
	"strings"
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

		// What %0a, %0d, %09, %3f, %23, %00, %7f and %20 are decoded to, and what stands behind.
		"/v1/gql\n": true, "/v1/gql\r": true, "/v1/gql\t": true, "/v1/gql?": true, "/v1/gql#": true, "/v1/gql\x00": true, "/v1/gql\x7f": true, "/v1/gql ": true,
		"/v1/gql\n/x": true, "/v1/gql?a/b": true, "/v1/gql#/../x": true, "/v1/gql;/x": true, "/v1/gql\r\nX: y/..": true, "/v1/admin/system-keys\n": true,
		"/v1/admin/audit-log?x": true, "/api/system-keys#": true, "/v1/g\nql": true, "/v1\t/gql": true, "/v1/gql\u0085": true, "/v1/gql\u00a0": true,
		"/v1/gql\u2028x": true, "/v1/gql\ufeff": true, "/v1/g\u200bql": true, "/v1/gql\xff": true, "/v1/g\xffql": true, "\n/v1/gql": true,
		// Encoded again, and again.
		"/v1/gql%0a": true, "/v1/gql%0D": true, "/v1/gql%09": true, "/v1/gql%3f": true, "/v1/gql%23": true, "/v1/gql%250a": true, "/v1/gq%6c": true,
		"/v1/gq%256c": true, "/v1/gq%25256c": true, "/v1/gq%" + strings.Repeat("25", 40) + "6c": true, "/v1/gq%2%35%36c": true, "/%76%31%2f%67%71%6c": true,
		"/v1/gql%" + strings.Repeat("25", 40) + "0a": true, "/v1/admin/system-keys/%252e%252e/x": true, "/v1/gql%3b/x": true, "/v1/gql%5c": true, "%2fv1%2fgql": true,
		// Letters that fold to ours, and characters in forms that are too long or wide.
		"/v1/admin/\u017fystem-keys": true, "/v1/admin/system-\u212aeys": true, "/v1/ADMIN/\u017fYSTEM-\u212aEYS": true, "/v1/adm\u0131n/audit-log": true,
		"/v1/adm\u0130n/audit-log": true, "/api/\u017fystem-keys/x": true, "/v1\xc0\xafgql": true, "/v1\xe0\x80\xafgql": true, "/v1\xf0\x80\x80\xafgql": true,
		"/v1/g\xc1\xb1l": true, "/v1/x/\xc0\xae\xc0\xae/gql": true, "/v1/gql\xc0\x80": true, "/v1/gql\xc0\x8a": true, "/v1\xf8\x80\x80\x80\xafgql": true,
		"/v1/gq\u2113": true, "/v1/\u24d6ql": true, "/x/\u2025/v1/gql": true, "/v1/gq%e2%84%93": true, "/v1\uff0fgql": true, "/v1/\uff27\uff31\uff2c": true, "/v1%c0%afgql": true, "/v1%25c0%25afgql": true, "/%c5%bfystem-keys/../v1/gql": true,
		`/v1\x\..\gql`: true, "/v1/gql/.": true, "/v1/gql/./": true, "/v1/gql//": true, "/v1/x/../gql/": true, "v1/gql": true,

		"/v1/gqlx\n": false, "/v1/gqlx?": false, "/v1/gqlx;": false, "/v1/gqlx%0a": false, "/v1/gql-x": false, "/v1/gql.json": false, "/v1/gql_": false, "/v1/xgql": false,
		"/v1/gql/../x": false, "/v1/gql/x/": false, "/v2/gql": false, "/v1/admin/system-keys-other": false, "/v1/admin/system-keys.json": false,
		"/v1/admin/system-keysmith%0a": false, "/v1/admin/audit-logs?x": false, "/api/system-keyring": false, "/api/systems": false, "/v1/g\u03c3l": false,
		"/files/\u017fystem-keys": false, "/files/\u00e4 b;c?d#e.txt": false, "/files/100%25": false, "/files/%ff": false, "/files/a\xffb": false, "/files/a\nb": false,
		"/v1/bots/17/gql": false, "/v1/bots/a%2fb": false, "/v1/bots/a%252fb": false, "/v1/bots/..%2fgql%2fx": false, "/v1/gql\u0301": false, "/v1/gq\u013a": false,
		"/?/v1/gql": true, "/;/v1/gql": true, "/x?/v1/gql": false, "/x#/v1/gql": false, "/x;/v1/gql": false, "/x\n/v1/gql": false,
	} {
		for _, h := range []*admin.Handler{h, without} {
			if got := h.Owns(path); got != want {
				t.Errorf("%q: %v", path, got)
			}
		}
	}
	for path, want := range map[string]bool{
		"/system": true, "/system/": true, "/System": true, "/x/../system/create": true, `/system\session`: true, "/%73ystem": true,
		"/\u017fystem": true, "/\u017fY\u017fTEM/create": true, "/system\n": true, "/system?x": true, "/system%2523": true, "/\xc1\xb3ystem": true, "/system;a/b": true, "/sy\ufb06em": true,
		"/systematic": false, "/system-status": false, "/system.html": false, "/systematic\n": false, "/\u0161ystem": false, "/my/system": false,
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

// TestALongPathIsRefusedUnlessItIsPlain, so that looking at it costs no more than a
// look at each byte.
func TestALongPathIsRefusedUnlessItIsPlain(t *testing.T) {
	t.Parallel()
	h := admin.NewHandler(admin.Config{Page: "/system"})
	long := "/files/" + strings.Repeat("x", 1<<20)
	if h.Owns(long) || h.Owns(long[:1<<10]+"%") || !h.Owns(long+"%") {
		t.Error("a long path is refused by its length alone, or read in every way")
	}
}

func BenchmarkOwns(b *testing.B) {
	h := admin.NewHandler(admin.Config{Page: "/system"})
	for name, path := range map[string]string{
		"ordinary": "/v1/bots/0199d3f0-7c1e-7a55-9b1f-2b8f5f0f6d01/messages", "ours": "/v1/admin/system-keys", "unicode": "/files/übersicht.txt",
		"worst": "/" + strings.Repeat("%25", 1000) + strings.Repeat(`\`, 1000),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Owns(path)
			}
		})
	}
}

func TestOrdinaryPathsAllocateNothing(t *testing.T) {
	h := admin.NewHandler(admin.Config{Page: "/system"})
	for _, path := range []string{"/", "/v1/bots/17", "/v1/gqlx", "/v1/admin/system-keys", "/a.b/c_d~e-f/", "/v1/bots/a:b@c,d+e!f"} {
		if n := testing.AllocsPerRun(100, func() { h.Owns(path) }); n != 0 {
			t.Errorf("%s allocates %v times", path, n)
		}
	}
}
