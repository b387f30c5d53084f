package phc_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
)

// vector is a line of testdata/vectors.txt.
type vector struct{ encoded, password, command string }

var printed = regexp.MustCompile(`^printf %s '([^']*)' \| argon2 '([^']*)' (.*)$`)

func loadVectors(tb testing.TB) []vector {
	tb.Helper()
	raw, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var all []vector
	for line := range strings.Lines(string(raw)) {
		encoded, command, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		parts := printed.FindStringSubmatch(command)
		if parts == nil {
			tb.Fatalf("cannot read the command line %q", command)
		}
		all = append(all, vector{encoded, parts[1], parts[2] + " " + parts[3]})
	}
	if len(all) < 15 {
		tb.Fatalf("only %d vectors were read", len(all))
	}
	return all
}

func TestHashesOfTheReferenceImplementationVerify(t *testing.T) {
	t.Parallel()
	for _, v := range loadVectors(t) {
		t.Run(v.command, func(t *testing.T) {
			t.Parallel()
			hashed, err := phc.Parse(v.encoded)
			if err != nil {
				t.Fatal(err)
			}
			if !hashed.Verify(v.password) {
				t.Error("the password does not verify")
			}
			if hashed.Params().Memory > 1<<10 {
				return // one run of the costly ones is enough
			}
			for _, wrong := range []string{"", v.password + "0", v.password + "\x00", v.password[1:], strings.ToUpper(v.password) + "!"} {
				if hashed.Verify(wrong) {
					t.Errorf("%q verifies too", wrong)
				}
			}
		})
	}
}
