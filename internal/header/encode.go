package header

// Encode returns s with every byte outside of printable ASCII (0x20 to 0x7E),
// and the percent sign itself, as a percent sign and two upper case hex digits
// (RFC 3986 section 2.1). What it returns can be sent in a header field:
// neither CR, LF nor NUL is left. Percent-decoding, such as
// [net/url.PathUnescape], gives s back. Decoders of forms do not: a plus sign
// stands for itself here.
func Encode(s string) string {
	special := 0
	for i := range len(s) {
		if mustEncode(s[i]) {
			special++
		}
	}
	if special == 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+2*special)
	for i := range len(s) {
		if c := s[i]; mustEncode(c) {
			b = append(b, '%', digits[c>>4], digits[c&0xF])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func mustEncode(c byte) bool { return c < 0x20 || c > 0x7E || c == '%' }
