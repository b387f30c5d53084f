package token

import (
	"encoding/base64"
	"strings"
)

// basicScheme stands in front of Basic credentials (RFC 7617).
const basicScheme = "basic "

// BasicHolds reports whether the value of a header field is of the Basic scheme, and
// the user or the password in it [Holds] a key.
func BasicHolds(value string) bool {
	return isBasic(value) && Holds(credentials(value[len(basicScheme):]))
}

func isBasic(value string) bool {
	n := len(basicScheme)
	return len(value) >= n && value[n-1] == ' ' && strings.EqualFold(value[:n], basicScheme)
}

// nextBasic returns where the next Basic credentials begin of which a key is part, with
// this first letter of the scheme, or len(s).
func nextBasic(s string, from int, first byte) int {
	for ; ; from++ {
		i := strings.IndexByte(s[from:], first)
		if i < 0 {
			return len(s)
		}
		from += i
		if !isBasic(s[from:]) {
			continue
		}
		value := from + len(basicScheme)
		if Mentions(credentials(s[value:afterCredentials(s, value)])) {
			return from
		}
	}
}

// afterCredentials returns where credentials end that begin at i, in a line of a log.
func afterCredentials(s string, i int) int {
	for i < len(s) && s[i] == ' ' {
		i++
	}
	for i < len(s) && s[i] > ' ' && s[i] != '"' && s[i] != '\\' {
		i++
	}
	return i
}

// credentials reads Basic credentials as the most liberal reader does: in either
// alphabet, with and without padding, and as far as they can be read.
func credentials(encoded string) string {
	clean := strings.Map(func(c rune) rune {
		switch {
		case c == '-':
			return '+'
		case c == '_':
			return '/'
		case c < 0x80 && tokenByte[c] && c != '.' && c != '~':
			return c
		}
		return -1
	}, encoded)
	b, _ := base64.RawStdEncoding.DecodeString(clean) // a part is enough
	return string(b)
}
