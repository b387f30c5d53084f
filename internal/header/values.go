package header

import (
	"net/http"
	"slices"
	"strings"
)

// AuthType is the value of the Auth-Type field: how the caller was identified.
const AuthType = "system_key"

// fields is how many fields [Values] holds.
const fields = 4

// Values is what an upstream is told about a key, rendered. It is meant to be
// kept with a verified key and injected into many requests. It does not change
// and is safe for concurrent use.
type Values struct {
	fields [fields]string
}

// Render prepares the values for the key with this id, which must be fit for a
// header. The label is percent-encoded, see [Encode]. The permissions are
// sorted and joined by commas; the slice itself is not changed. Permissions
// that are not valid, as another program may have written them into the
// store, are encoded too: what Render returns can always be sent.
func Render(id, label string, permissions []string) Values {
	sorted := slices.Sorted(slices.Values(permissions))
	return Values{[fields]string{AuthType, id, Encode(label), Encode(strings.Join(sorted, ","))}}
}

// Inject sets the four fields of values in h, in place of whatever h had under
// these names. It comes after [Owner.Strip].
func (o *Owner) Inject(h http.Header, values *Values) {
	// A copy for each request: handlers such as request_header edit the values
	// of a field in place, which must not reach the next request. Each slice
	// ends where the next begins, so that an append cannot reach it either.
	lines := values.fields
	all := lines[:]
	for i, name := range o.names {
		h[name] = all[i : i+1 : i+1]
	}
}

// InjectAssertion sets the Assertion field in h to jwt. It comes after
// [Owner.Strip].
func (o *Owner) InjectAssertion(h http.Header, jwt string) {
	h[o.assertion] = []string{jwt}
}

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
