package token

import "strings"

// leastKey is how many characters of a key must follow the prefix for a text to
// hold one. Fewer occur in documentation, and in searches for labels.
const leastKey = 20

// LeastHeld is the length of the shortest text that [Holds] a key, however it is
// encoded.
const LeastHeld = len(Prefix) + leastKey

// mostKey is how far a key is read. It bounds the time for hostile texts.
const mostKey = 64

// Holds reports whether a text holds a key, or enough of one to be taken for it: the
// prefix in any case, and 20 letters and digits or more behind it. Keys of other
// services may have - and _ there; with those, one of the characters must be a
// digit, or names such as lm_sys_last_visited_page would be keys. Everything counts
// as it is and percent-encoded, once or twice. Holds does not allocate.
func Holds(s string) bool { return len(s) >= LeastHeld && holds(s) }

func holds(s string) bool {
	for i := nextPlain(s, 0); i < len(s); i = nextPlain(s, i+1) {
		if keyAt(s, i) {
			return true
		}
	}
	for i := nextEncoded(s, 0); i < len(s); i = nextEncoded(s, i+1) {
		if keyAt(s, i) {
			return true
		}
	}
	return false
}

// keyAt reports whether the prefix at i is that of a key.
func keyAt(s string, i int) bool {
	i = afterPrefix(s, i)
	if i < 0 {
		return false
	}
	var digit, separated bool
	for n := 1; n <= mostKey; n++ {
		var c byte
		switch c, i = decodedAt(s, i); {
		case c >= '0' && c <= '9':
			digit = true
		case c == '-', c == '_':
			separated = true
		case lower(c) < 'a', lower(c) > 'z':
			return false
		}
		if n >= leastKey && (digit || !separated) {
			return true
		}
	}
	return false
}

// nextPlain returns where the next prefix begins that is not encoded, or len(s).
func nextPlain(s string, from int) int {
	const before = 2 // letters in front of the first underscore
	for from+before < len(s) {
		i := strings.IndexByte(s[from+before:], '_')
		if i < 0 {
			break
		}
		from += i
		if lower(s[from+1]) == 'm' && lower(s[from]) == 'l' && plainAt(s, from) {
			return from
		}
		from++
	}
	return len(s)
}

func plainAt(s string, i int) bool {
	if len(s)-i < len(Prefix) {
		return false
	}
	for k := range len(Prefix) {
		if lower(s[i+k]) != Prefix[k] {
			return false
		}
	}
	return true
}

// nextEncoded returns where the next prefix begins of which something is
// percent-encoded, or len(s).
func nextEncoded(s string, from int) int {
	for sign := from; ; sign++ {
		i := strings.IndexByte(s[sign:], '%')
		if i < 0 {
			return len(s)
		}
		sign += i
		// What stands in front of the first sign of a prefix is not encoded.
		c, _ := decodedAt(s, sign)
		c = lower(c)
		for k := range len(Prefix) {
			if Prefix[k] == c && sign-k >= from && afterPrefix(s, sign-k) >= 0 {
				return sign - k
			}
		}
	}
}

// afterPrefix returns where the prefix ends that begins at i, as it is or encoded;
// less than 0 if there is none.
func afterPrefix(s string, i int) int {
	for k := range len(Prefix) {
		var c byte
		if c, i = decodedAt(s, i); lower(c) != Prefix[k] {
			return -1
		}
	}
	return i
}

// decodedAt returns the byte at i, decoded twice, and where the next one begins. At
// the end it is 0.
func decodedAt(s string, i int) (c byte, next int) {
	if c, next = unescapedAt(s, i); c != '%' {
		return c, next
	}
	high, after := unescapedAt(s, next)
	low, after := unescapedAt(s, after)
	if high, low := unhex(high), unhex(low); high >= 0 && low >= 0 {
		return byte(high<<4 | low), after
	}
	return c, next
}

// unescapedAt decodes once. What is no valid escape stands for itself.
func unescapedAt(s string, i int) (c byte, next int) {
	if i >= len(s) {
		return 0, i
	}
	if s[i] == '%' && i+2 < len(s) {
		if high, low := unhex(s[i+1]), unhex(s[i+2]); high >= 0 && low >= 0 {
			return byte(high<<4 | low), i + 3
		}
	}
	return s[i], i + 1
}

func unhex(c byte) int {
	switch c = lower(c); {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}
