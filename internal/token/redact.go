package token

import (
	"slices"
	"unsafe"
)

// Redacted stands where a key was.
const Redacted = "REDACTED"

// Redact takes keys out of a text that repeats what somebody has written, such as
// a message that names an unknown field or a path: whoever puts a key in the wrong
// place shall not find it in a log for that. What only begins like a key goes too, in
// any case, percent-encoded once or twice, or as part of Basic credentials.
func Redact(s string) string {
	if clean := redact(s); clean != nil {
		return string(clean)
	}
	return s
}

// RedactBytes is [Redact] for bytes, which it does not change. If there is no key in
// them, clean is b itself and changed is false, and nothing is allocated.
func RedactBytes(b []byte) (clean []byte, changed bool) {
	// Nobody changes the bytes while they are looked at as a string.
	if clean = redact(unsafe.String(unsafe.SliceData(b), len(b))); clean != nil { //nolint:gosec // a copy would cost more than the search
		return clean, true
	}
	return b, false
}

// Mentions reports whether there is the beginning of a key in a text, in any case, or
// percent-encoded once or twice.
func Mentions(s string) bool { return nextPlain(s, 0) < len(s) || nextEncoded(s, 0) < len(s) }

// finders return each where the next thing begins that is to be taken out, or len(s).
var finders = [...]func(s string, from int) int{
	nextPlain, nextEncoded,
	func(s string, from int) int { return nextBasic(s, from, 'B') },
	func(s string, from int) int { return nextBasic(s, from, 'b') },
}

// redact returns nil if nothing is to be taken out.
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
			if starts[k] < from { // it is part of what was taken out
				starts[k] = find(s, from)
			}
		}
	}
}

// afterKey returns where what was found at i ends.
func afterKey(s string, i int) int {
	if s[i] == 'b' || s[i] == 'B' {
		i = afterCredentials(s, i+len(basicScheme))
	}
	for i < len(s) && mentioned[s[i]] {
		i++
	}
	return i
}

// mentioned marks the bytes of which a key in a text consists, encoded or not. Keys
// of other services may hold whatever a bearer token may, slashes too; so the rest
// of a path goes with a key. It marks nothing that has a meaning in JSON.
var mentioned = func() (table [256]bool) {
	table = tokenByte
	table['_'], table['='], table['%'] = true, true, true
	return table
}()
