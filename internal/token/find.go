package token

import "strings"

// leastKey is how many characters must follow the prefix for a text to hold a key. Fewer
// occur in documentation, and in searches for labels.
const leastKey = 20

// LeastHeld is the length of the shortest text that holds a key, in any encoding.
const LeastHeld = len(Prefix) + leastKey

// mostKey is how many characters of a key are read. It bounds the time for hostile texts.
const mostKey = 64

// Holds reports whether a text holds a key, or enough of a key to be taken for one: the
// prefix in any case, followed by 20 letters and digits or more. Keys of other services may
// have - and _ there. With those, one of the characters must be a digit, or names such as
// lm_sys_last_visited_page would be keys. Each character may be percent-encoded, once or
// twice. Holds does not allocate.
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

// keyAt reports whether the prefix at i begins a key.
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

// nextPlain returns where the next prefix that is not encoded begins, or len(s). It
// searches for the first underscore of the prefix.
func nextPlain(s string, from int) int {
	const before = 2 // letters in front of the first underscore
	for from+before < len(s) {
		i := strings.IndexByte(s[from+before:], '_')
		if i < 0 {
			break
		}
		from += i
		if plainAt(s, from) {
			return from
		}
		from++
	}
	return len(s)
}

// plainAt reports whether the prefix is at i, in any case and not encoded.
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

// nextEncoded returns where the next prefix begins that is percent-encoded as a whole or
// in part, or len(s).
func nextEncoded(s string, from int) int {
	for sign := from; ; sign++ {
		i := strings.IndexByte(s[sign:], '%')
		if i < 0 {
			return len(s)
		}
		sign += i
		// This is the first percent sign of the prefix, so its letters before are plain.
		// The encoded letter says how many there are.
		c, _ := decodedAt(s, sign)
		c = lower(c)
		for k := range len(Prefix) {
			if Prefix[k] == c && sign-k >= from && afterPrefix(s, sign-k) >= 0 {
				return sign - k
			}
		}
	}
}

// afterPrefix returns where the prefix at i ends. The prefix may be encoded. If there is
// none, the result is less than 0.
func afterPrefix(s string, i int) int {
	for k := range len(Prefix) {
		var c byte
		if c, i = decodedAt(s, i); lower(c) != Prefix[k] {
			return -1
		}
	}
	return i
}

// decodedAt returns the byte at i, decoded twice, and where the next byte begins. At the
// end of s the byte is 0.
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

// Unescape decodes percent-encoding as the most liberal reader does. An invalid escape
// stands for itself, and the rest is still decoded. Use it to search a text for what
// somebody may read out of it, and not to read the text.
func Unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		var c byte
		c, i = unescapedAt(s, i)
		decoded = append(decoded, c)
	}
	return string(decoded)
}

// unescapedAt is [decodedAt] for a single decoding. A percent sign that begins no valid
// escape stands for itself.
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

// unhex returns the value of a hexadecimal digit, or -1.
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
