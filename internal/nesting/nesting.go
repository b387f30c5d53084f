// Package nesting bounds how deep a JSON text is nested, before a decoder reads it.
//
// A decoder calls itself, or allocates, for each level. A body of 1 MiB that opens half a
// million lists costs a decoder hundreds of times the size of the body. A [Scanner] keeps
// a few bytes. It looks at the text as it arrives, and fails at the first level too many.
//
// A scanner counts brackets outside of strings, and nothing else. Up to the first byte that
// is not JSON it counts the levels that a decoder counts. At that byte a decoder gives up.
package nesting

import (
	"errors"
	"strconv"
)

// Max is how many levels a text may have. A text that is an empty list has one level.
const Max = 64

// ErrDeep says that a text has more than [Max] levels.
var ErrDeep = errors.New("it is nested more than " + strconv.Itoa(Max) + " levels deep")

// Check returns [ErrDeep] for a text with too many levels.
func Check(text []byte) error {
	var s Scanner
	_, err := s.Write(text)
	return err
}

// Scanner counts the levels of one text, which is written to it in parts. The zero value
// is ready for a text.
type Scanner struct {
	depth    int
	inString bool
	escaped  bool // the byte before was a backslash in a string
}

// Write implements [io.Writer]. Its only error is [ErrDeep].
func (s *Scanner) Write(part []byte) (int, error) {
	for i, c := range part {
		switch {
		case s.escaped:
			s.escaped = false
		case s.inString:
			s.escaped, s.inString = c == '\\', c != '"'
		case c == '"':
			s.inString = true
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
