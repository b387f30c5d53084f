package token_test

import (
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// b64token is what RFC 6750 section 2.1 says of a bearer token, in our bounds.
var b64token = regexp.MustCompile(`^lm_sys_[0-9A-Za-z\-._~+/]+=*$`)

func TestWhatMayBeAKeyOfAnotherService(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"lm_sys_a":                          true,
		"lm_sys_-._~+/":                     true,
		"lm_sys_aGVsbG8=":                   true,
		"lm_sys_a==":                        true,
		token.Prefix + rep("a", 256):        true,
		token.New(mintKey).Mint(id, secret): true, // that is for Parse to say
		"":                                  false,
		"lm_sys_":                           false,
		"lm_sys_=":                          false,
		"lm_sys_a=b":                        false,
		"lm_sys_a b":                        false,
		"lm_sys_a\x00":                      false,
		"lm_sys_ä":                          false,
		"lm_sys_a,b":                        false,
		"LM_SYS_a":                          false,
		" lm_sys_a":                         false,
		token.Prefix + rep("a", 257):        false,
	} {
		if got := token.Foreign(s); got != want {
			t.Errorf("Foreign(%q) is %t", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(
			rapid.StringMatching(`lm_sys_[ -~]{0,40}`), rapid.StringMatching(`lm_sys_[0-9A-Za-z\-._~+/]{250,260}=*`), rapid.String(),
		).Draw(t, "input")
		want := b64token.MatchString(s) && len(s) <= len(token.Prefix)+256 && !strings.HasSuffix(s, "\n")
		if got := token.Foreign(s); got != want {
			t.Fatalf("Foreign(%q) is %t", s, got)
		}
	})
}

func TestDigestsOfAnyLength(t *testing.T) {
	for _, n := range []int{0, 1, token.Length, token.Length + 1, token.MaxForeign, token.MaxForeign + 1, 10_000} {
		s := rep("k", n)
		if token.Digest(s) != sha256.Sum256([]byte("system-keys.v1\x00"+s)) {
			t.Errorf("the digest of %d bytes is another", n)
		}
		if allocs := testing.AllocsPerRun(100, func() { token.Digest(s) }); n <= token.MaxForeign && allocs != 0 {
			t.Errorf("%v allocations for %d bytes", allocs, n)
		}
	}
}

func rep(s string, n int) string { return strings.Repeat(s, n) }
