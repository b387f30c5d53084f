package nesting_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/nesting"
)

func nested(opening, closing string, levels int) string {
	return strings.Repeat(opening, levels) + strings.Repeat(closing, levels)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		deep bool
	}{
		"nothing":                                {"", false},
		"64 lists":                               {nested("[", "]", 64), false},
		"65 lists":                               {nested("[", "]", 65), true},
		"65 objects":                             {nested(`{"a":`, "}", 65), true},
		"64 of both":                             {nested(`[{"a":`, "}]", 32), false},
		"66 of both":                             {nested(`[{"a":`, "}]", 33), true},
		"half a million that are never closed":   {strings.Repeat("[", 1<<19), true},
		"many beside each other":                 {"[" + strings.Repeat("[],", 1000) + "[]]", false},
		"brackets in a string":                   {`"` + strings.Repeat("[", 1000) + `"`, false},
		"brackets in a name":                     {`{"` + strings.Repeat("{", 1000) + `":1}`, false},
		"a string with an escaped quote":         {`["\"` + strings.Repeat("[", 1000) + `"]`, false},
		"a string that ends with a backslash":    {`["\\",` + nested("[", "]", 64) + "]", true},
		"a string that ends with an escape":      {`["\\\"",` + nested("[", "]", 63) + "]", false},
		"closing brackets of strings":            {nested(`["]]]]",`, "]", 65), true},
		"deep levels behind other deep levels":   {"[" + nested("[", "]", 63) + "," + nested("[", "]", 64) + "]", true},
		"deep levels in a member that is no use": {`{"query":"{ a }","variables":` + nested("[", "]", 64) + "}", true},
	} {
		if err := nesting.Check([]byte(test.text)); errors.Is(err, nesting.ErrDeep) != test.deep || (err != nil) != test.deep {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// levels are those of a text, as a decoder counts them.
func levels(text string) (deepest int) {
	decoder := json.NewDecoder(strings.NewReader(text))
	for depth := 0; ; {
		token, err := decoder.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			depth++
			deepest = max(deepest, depth)
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
	}
}

// FuzzCheck holds that what passes makes no decoder go deeper, that JSON of 64 levels
// and less does pass, and that it makes no difference in which parts a text arrives.
func FuzzCheck(f *testing.F) {
	for _, text := range []string{
		nested("[", "]", 64), nested("[", "]", 65), nested(`{"a":`, "}", 65), `["\"` + strings.Repeat("[", 70), `["\\",` + strings.Repeat("[", 70),
		"]]]]" + strings.Repeat("[", 66), `"` + strings.Repeat(`\`, 9) + `"` + strings.Repeat("[", 66), `{"a":[1,"x",{}]}`, "[}" + strings.Repeat("[", 66),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := nesting.Check([]byte(text))
		if got := levels(text); err == nil && got > nesting.Max {
			t.Errorf("%q passes, and has %d levels", text, got)
		} else if err != nil && got <= nesting.Max && json.Valid([]byte(text)) {
			t.Errorf("%q has %d levels, and is refused", text, got)
		}
		var s nesting.Scanner
		for i := range len(text) {
			if _, one := s.Write([]byte{text[i]}); one != nil {
				if err == nil {
					t.Errorf("%q is refused byte by byte", text)
				}
				return
			}
		}
		if err != nil {
			t.Errorf("%q passes byte by byte", text)
		}
	})
}

// TestAScannerKeepsNothing of what it reads.
func TestAScannerKeepsNothing(t *testing.T) {
	var s nesting.Scanner
	part := []byte(`{"a":["b\"",1]}`)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Write(part); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
