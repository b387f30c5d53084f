package token

import (
	"encoding/base64"
	"strings"
)

// form is a way in which a key may be written.
type form struct {
	// next returns where the next text begins that may be a key of this form, or len(s).
	next func(s string, from int) int
	// read reads the key at i. If there is none, it returns false.
	read func(s string, i int, key *[Length]byte) bool
}

var forms = [...]form{
	{nextText(Prefix, 0), readEscaped},
	{nextEncoded, readEscaped},
	{nextText(strings.Join(strings.Split(Prefix, ""), "\x00"), 0), readUTF16},
	inBase64(0), inBase64(1), inBase64(2),
}

// nextText searches for a text that begins some bytes behind the key's beginning.
func nextText(text string, behind int) func(s string, from int) int {
	return func(s string, from int) int {
		if from+behind < len(s) {
			if i := strings.Index(s[from+behind:], text); i >= 0 {
				return from + i
			}
		}
		return len(s)
	}
}

// inKey reports whether a key may have the character at this place.
func inKey(place int, c byte) bool {
	if place < len(Prefix) {
		return c == Prefix[place]
	}
	return digits[c] != notDigit
}

// readEscaped reads a key that is not encoded, or percent-encoded up to twice.
func readEscaped(s string, i int, key *[Length]byte) bool {
	for k := range key {
		if key[k], i = decodedAt(s, i); !inKey(k, key[k]) {
			return false
		}
	}
	return true
}

// readUTF16 reads a key in UTF-16, in which each character has a zero byte behind it, or
// before it. Some shells of Windows write what is redirected to a file so.
func readUTF16(s string, i int, key *[Length]byte) bool {
	const step = 2
	if len(s)-i < step*Length-1 {
		return false
	}
	for k := range key {
		if key[k] = s[i+step*k]; !inKey(k, key[k]) || k > 0 && s[i+step*k-1] != 0 {
			return false
		}
	}
	return true
}

// Bits of a character of base64, and of a byte.
const (
	sextet = 6
	octet  = 8
)

// inBase64 is a key in a text that is encoded in base64 as a whole, such as the value of a
// Secret of Kubernetes, or Basic credentials. Before is how many bytes of its group of
// three stand before the key. They decide how the prefix is written: its first and last
// character may have bits of others.
func inBase64(before int) form {
	encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", before) + Prefix + "--"))
	bits := octet * before
	first, last := bits/sextet, (bits+octet*len(Prefix))/sextet
	behind := min(before, 1) // without bits before the key, the first character is the key's alone
	return form{
		next: nextText(encoded[first+behind:last], behind),
		read: func(s string, i int, key *[Length]byte) bool { return readBase64(s, i, bits%sextet, key) },
	}
}

// sextets are the values of both alphabets of base64 (RFC 4648 sections 4 and 5).
var sextets = func() (table [256]byte) {
	for i := range table {
		table[i] = notDigit
	}
	for _, last := range []string{"+/", "-_"} {
		for value, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + last) {
			table[c] = byte(value)
		}
	}
	return table
}()

// readBase64 reads a key that begins some bits into the character at i. There may be white
// space: many programs break base64 into lines.
func readBase64(s string, i, skipped int, key *[Length]byte) bool {
	end := min(len(s), i+mostEncoded)
	var bits uint32
	for k, n := 0, -skipped; k < len(key); i++ {
		if i >= end {
			return false
		}
		value := sextets[s[i]]
		if value == notDigit {
			if isSpace(s[i]) {
				continue
			}
			return false
		}
		bits, n = bits<<sextet|uint32(value), n+sextet
		if n < octet {
			continue
		}
		n -= octet
		if key[k] = byte(bits >> n); !inKey(k, key[k]) {
			return false
		}
		k++
	}
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
