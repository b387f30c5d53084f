package phc

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// What parses is within the bounds and is spelled in the one way that encode
// spells it.
func FuzzParse(f *testing.F) {
	raw, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		encoded, _, _ := strings.Cut(line, "\t")
		f.Add(encoded)
		f.Add(strings.Replace(encoded, "m=", "m=0", 1))
		f.Add(strings.Replace(encoded, "p=1", "p=257", 1))
		f.Add(encoded + "=")
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := Parse(s)
		if err != nil {
			if h != nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrOutOfBounds) {
				t.Errorf("Parse(%q) gave %v", s, err)
			}
			return
		}
		if again := h.encode(); again != s {
			t.Errorf("%q parses, but is written %q", s, again)
		}
		if err := h.params.Validate(); err != nil {
			t.Errorf("%q parses, but: %v", s, err)
		}
		if len(h.salt) < 8 || len(h.salt) > 64 || len(h.hash) < 16 || len(h.hash) > 64 {
			t.Errorf("%q parses, with a salt of %d and a hash of %d bytes", s, len(h.salt), len(h.hash))
		}
	})
}
