// Package nesting bounds how deep a JSON text is nested, before a decoder reads it.
//
// A decoder calls itself, or allocates, for each level: a body of 1 MiB that opens
// half a million lists costs it hundreds of times its own size. A [Scanner] keeps a
// few bytes, looks at the text as it arrives, and ends it at the first level too many.
//
// It counts brackets outside of strings, and nothing else. Up to the first byte that
// is no JSON it counts exactly what a decoder would. There a decoder gives up.
package nesting

import (
	"errors"
	"strconv"
)

// Max is how many levels a text may have. An empty list at the top has one.
const Max = 64

// ErrDeep says that a text has more levels.
var ErrDeep = errors.New("it is nested more than " + strconv.Itoa(Max) + " levels deep")

// Check returns [ErrDeep] for a text with too many levels.
func Check(text []byte) error {
	var s Scanner
	_, err := s.Write(text)
	return err
}

// Scanner counts the levels of one text, which is written to it in parts. The zero
// value is at its beginning.
type Scanner struct {
	depth   int
	text    bool // in a string
	escaped bool // behind a backslash in it
}

// Write implements [io.Writer]. The error is [ErrDeep].
func (s *Scanner) Write(part []byte) (int, error) {
	for i, c := range part {
		switch {
		case s.escaped:
			s.escaped = false
		case s.text:
			s.escaped, s.text = c == '\\', c != '"'
		case c == '"':
			s.text = true
		case c == '{', c == '[':
			if s.depth++; s.depth > Max {
				return i, ErrDeep
			}
		case c == '}', c == ']':
			s.depth--
		}
	}
	return len(part), nil
}
