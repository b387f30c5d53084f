package token

import (
	"slices"
	"unsafe"
)

// Redacted replaces a key in a text.
const Redacted = "REDACTED"

// Redact takes keys out of a text that repeats what somebody has written, such as a
// message that names an unknown field or a path. If somebody puts a key in the wrong
// place, the key must not end up in a log. Redact also takes out a text that only begins
// like a key: in any case, percent-encoded once or twice, or in Basic credentials.
func Redact(s string) string {
	if clean := redact(s); clean != nil {
		return string(clean)
	}
	return s
}

// RedactBytes is [Redact] for bytes. It does not change b. If b has no key in it, clean is
// b itself, changed is false, and nothing is allocated.
func RedactBytes(b []byte) (clean []byte, changed bool) {
	// Nobody changes the bytes while they are looked at as a string.
	if clean = redact(unsafe.String(unsafe.SliceData(b), len(b))); clean != nil { //nolint:gosec // a copy would cost more than the search
		return clean, true
	}
	return b, false
}

// Mentions reports whether the prefix of a key is in a text: in any case, and percent-encoded
// up to twice.
func Mentions(s string) bool { return nextPlain(s, 0) < len(s) || nextEncoded(s, 0) < len(s) }

// finders each return where the next text to take out begins, or len(s).
var finders = [...]func(s string, from int) int{
	nextPlain, nextEncoded,
	func(s string, from int) int { return nextBasic(s, from, 'B') },
	func(s string, from int) int { return nextBasic(s, from, 'b') },
}

// redact returns the text without keys, or nil if there are none.
func redact(s string) (clean []byte) {
	var starts [len(finders)]int
	for k, find := range finders {
		starts[k] = find(s, 0)
	}
	for from := 0; ; {
		start := slices.Min(starts[:])
		if start == len(s) {
			if clean != nil {
				clean = append(clean, s[from:]...)
			}
			return clean
		}
		if clean == nil {
			clean = make([]byte, 0, len(s)+1)
		}
		clean = append(append(clean, s[from:start]...), Redacted...)
		from = afterKey(s, start)
		for k, find := range finders {
			if starts[k] < from { // it was taken out just now
				starts[k] = find(s, from)
			}
		}
	}
}

// afterKey returns where the text that a finder found at i ends.
func afterKey(s string, i int) int {
	if s[i] == 'b' || s[i] == 'B' {
		i = afterCredentials(s, i+len(basicScheme))
	}
	for i < len(s) && keyByte[s[i]] {
		i++
	}
	return i
}

// keyByte marks the bytes that belong to a key in a text, encoded or not. Keys of other
// services may hold any byte of a bearer token, slashes too. So the rest of a path is
// taken out with a key. No byte that has a meaning in JSON is marked.
var keyByte = func() (table [256]bool) {
	table = tokenByte
	table['_'], table['='], table['%'] = true, true, true
	return table
}()
