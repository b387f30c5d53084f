package gate_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// FuzzCredential holds that nothing that looks like a system key, in whatever
// field or parameter of a request, is taken for the credential of somebody else
// and passed on, and that what is taken for one is the whole of one bearer token.
func FuzzCredential(f *testing.F) {
	for _, fields := range []string{
		"", "Bearer lm_sys_0", "bearer   lm_sys_0", "Basic Ym9iOnNlY3JldA==", "Bearer lm_sys_0\nBearer lm_sys_0", "Basic x\nBearer lm_sys_0", "Token LM_SYS_0",
		"Bearer\tlm_sys_0", "Bearer lm_sys_0, Basic x", "lm_sys_0", "Bearer x lm_Sys_", "Bearer", "Bearer ", "Bearerlm_sys_0", "Bearer lm_\u017fys_0", "Digest username=\"lm_sys_\"",
	} {
		for _, query := range []string{"", "token=x", "token=lm_sys_0", "Token=LM_SYS_0", "%74oken=%6Cm_sys_0", "a=1;token=lm_sys_", "token=%zzlm_sys_", "q=lm_sys_0", "token=lm%5fsys%5f"} {
			f.Add(fields, query)
		}
	}
	f.Fuzz(func(t *testing.T, fields, query string) {
		r := &http.Request{Header: make(http.Header), URL: &url.URL{RawQuery: query}}
		if fields != "" {
			r.Header["Authorization"] = strings.Split(fields, "\n")
		}
		lines := r.Header["Authorization"]
		key, refusal := gate.Credential(r)
		if key != "" {
			if refusal != nil || len(lines) != 1 || !strings.HasPrefix(key, "lm_sys_") {
				t.Fatalf("%q gives the key %q, %v", lines, key, refusal)
			}
			scheme, rest, _ := strings.Cut(lines[0], " ")
			if !strings.EqualFold(scheme, "bearer") || strings.TrimLeft(rest, " ") != key {
				t.Errorf("%q gives the key %q", lines, key)
			}
		}
		if refusal != nil {
			if refusal.Status != http.StatusBadRequest && refusal.Status != http.StatusUnauthorized || strings.Contains(refusal.Message, "lm_sys_") {
				t.Errorf("%q is refused with %d %s", lines, refusal.Status, refusal.Message)
			}
			return
		}
		if key == "" && strings.Contains(asciiLower(strings.Join(lines, "\n")), "lm_sys_") || len(lines) > 1 {
			t.Errorf("%q is passed on", lines)
		}
		if values, err := url.ParseQuery(query); err == nil {
			for name, all := range values {
				if strings.EqualFold(name, "token") && strings.Contains(asciiLower(strings.Join(all, "\n")), "lm_sys_") {
					t.Errorf("?%s is passed on", query)
				}
			}
		}
	})
}

func asciiLower(s string) string {
	return strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, s)
}
