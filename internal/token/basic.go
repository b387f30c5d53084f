package token

import (
	"encoding/base64"
	"strings"
)

// basicScheme begins a header field with Basic credentials (RFC 7617).
const basicScheme = "basic "

// BasicHolds reports whether the value of a header field is of the Basic scheme, and its
// user or password holds a key as [Holds] defines it.
func BasicHolds(value string) bool {
	return isBasic(value) && Holds(credentials(value[len(basicScheme):]))
}

func isBasic(value string) bool {
	n := len(basicScheme)
	return len(value) >= n && value[n-1] == ' ' && strings.EqualFold(value[:n], basicScheme)
}

// nextBasic finds the next Basic credentials that mention a key, and returns where their
// scheme begins, or len(s). First is the first letter of the scheme: B or b.
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

// afterCredentials returns where the credentials at i end, in a line of a log.
func afterCredentials(s string, i int) int {
	for i < len(s) && s[i] == ' ' {
		i++
	}
	for i < len(s) && s[i] > ' ' && s[i] != '"' && s[i] != '\\' {
		i++
	}
	return i
}

// credentials decodes Basic credentials as the most liberal reader does. It accepts both
// alphabets of base64, with and without padding. If it meets a byte that it cannot decode,
// it returns what came before.
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
