package admin

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// ending is what a reader does at a character that ends a path, or a part of it:
// controls, blanks, invisible characters, and ";", "?" and "#".
type ending int

const (
	endNowhere ending = iota // it is a character like any other
	endSegment               // the rest of the segment is cut off: parameters (RFC 3986 section 3.3)
	endPath                  // the rest of the path is: a query, C strings, headers that are split
	endDropped               // it alone is dropped, as browsers do with line ends, and decoders with what is not UTF-8
)

// reading is what a reader may make of a path: letters in lower case as Unicode folds
// them ("ſ" is "s", and the Kelvin sign "k"), characters in their compatible form (NFKC:
// wide letters, "ℓ", ligatures), overlong UTF-8 as ASCII, and the backslash as what it
// is told.
//
// It need not be exact. A reading too many costs a stranger's path a 404. A reading too few lets
// a request pass to an upstream that reads it as one of our paths.
func reading(p string, end ending, backslash byte) string {
	var b strings.Builder
	b.Grow(len(p))
	for i := 0; i < len(p); {
		if c := p[i]; c >= '-' && c <= '9' || c >= 'a' && c <= 'z' { // nearly all
			b.WriteByte(c)
			i++
			continue
		}
		r, size := decodeRune(p[i:])
		if !endsPath(r) || end == endNowhere {
			switch r {
			case '\\':
				b.WriteByte(backslash)
			case utf8.RuneError:
				b.WriteString(p[i : i+size])
			default:
				for _, part := range norm.NFKC.String(string(r)) {
					b.WriteRune(foldRune(part))
				}
			}
			i += size
			continue
		}
		if end == endPath {
			return b.String()
		}
		if end == endSegment {
			rest := strings.IndexAny(p[i:], segmentEnds[backslash])
			if rest < 0 {
				return b.String()
			}
			size = rest
		}
		i += size
	}
	return b.String()
}

// segmentEnds are the separators, by what a backslash is read as.
var segmentEnds = map[byte]string{'\\': "/", '/': `/\`}

// endsPath reports whether some reader ends a path, or a segment, at a character.
func endsPath(r rune) bool {
	return r == ';' || r == '?' || r == '#' || r == utf8.RuneError ||
		unicode.IsControl(r) || unicode.IsSpace(r) || r >= utf8.RuneSelf && unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// foldRune gives a letter in lower case, and ASCII for what any folding makes ASCII
// of: the dotless i too, which some compare in upper case.
func foldRune(r rune) rune {
	if upper := unicode.ToUpper(r); upper < utf8.RuneSelf {
		r = upper
	}
	return unicode.ToLower(r)
}

// decodeRune reads a character of UTF-8, also in a form that is too long (RFC 3629
// section 3): C0 AF and E0 80 AF are slashes to a lenient decoder.
func decodeRune(s string) (r rune, size int) {
	if r, size = utf8.DecodeRuneInString(s); r != utf8.RuneError || size > 1 {
		return r, size
	}
	// How many bytes a first byte announces, and the bits of the character in it.
	c, n := rune(s[0]), 0
	r = 0
	switch c {
	case 0xC0, 0xC1:
		r, n = c&0x1F, 2
	case 0xE0:
		n = 3
	case 0xF0:
		n = 4
	case 0xF8:
		n = 5
	case 0xFC:
		n = 6
	}
	if n == 0 || len(s) < n {
		return utf8.RuneError, 1
	}
	for i := 1; i < n; i++ {
		if s[i]&0xC0 != 0x80 {
			return utf8.RuneError, 1
		}
		r = r<<6 | rune(s[i]&0x3F)
	}
	return r, n
}

// unescapeAll decodes percent-encoding until nothing changes. It takes one pass: a byte
// that is decoded may end another escape, and nothing before it has to be read again.
func unescapeAll(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		b = append(b, s[i])
		for n := len(b); n >= 3 && b[n-3] == '%'; n = len(b) {
			decoded := token.Unescape(string(b[n-3:]))
			if len(decoded) != 1 {
				break
			}
			b = append(b[:n-3], decoded[0])
		}
	}
	return string(b)
}
