package token_test

import (
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	key := token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})
	for text, want := range map[string]string{
		"":                              "",
		"nothing":                       "nothing",
		key:                             "REDACTED",
		`unknown field "` + key + `"`:   `unknown field "REDACTED"`,
		"/a/" + key + "/b":              "/a/REDACTED",
		"at lm_sys_a-B.c_d~e+f/g==, 2":  "at REDACTED, 2",
		"lm%5fsys_%2b-x?a=b":            "REDACTED?a=b",
		key + "," + key:                 "REDACTED,REDACTED",
		strings.ToUpper(key):            "REDACTED",
		"/lm%5fsys%5F" + key[7:]:        "/REDACTED",
		"/lm_sys_%30" + key[8:] + "?a=": "/REDACTED?a=",
		key[:40] + "…":                  "REDACTED…",
		"lm_sys":                        "lm_sys",
	} {
		if got := token.Redact(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
