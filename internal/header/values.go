package header

import (
	"net/http"
	"slices"
	"strings"
)

// AuthType is the value of the Auth-Type field. It says how the caller was identified.
const AuthType = "system_key"

// fields is how many fields [Values] holds.
const fields = 4

// Values are the rendered values that tell an upstream about a key. They are kept with a
// verified key, and copied for each request.
type Values struct {
	fields [fields]string
}

// Render prepares the values for the key with this id. The id must be fit for a header. The
// label is percent-encoded, see [Encode]. The permissions are sorted and joined by commas,
// and the slice itself is not changed. Another program may have written invalid permissions
// into the store. They are encoded too, so the result can always be sent.
func Render(id, label string, permissions []string) Values {
	sorted := slices.Sorted(slices.Values(permissions))
	return Values{[fields]string{AuthType, id, Encode(label), Encode(strings.Join(sorted, ","))}}
}

// Inject sets the four fields of values in h, and replaces any values that h had under these
// names. It comes after [Owner.Strip].
//
// The header refers to values, so each request needs a copy: handlers such as request_header
// edit the values of a field in place, and the next request must not see that. The capacity
// of each slice ends where the next slice begins, so that an append cannot overwrite the
// next value.
func (o *Owner) Inject(h http.Header, values *Values) {
	all := values.fields[:]
	for i, name := range o.names {
		h[name] = all[i : i+1 : i+1]
	}
}

// InjectAssertion sets the Assertion field in h to jwt. It comes after
// [Owner.Strip].
func (o *Owner) InjectAssertion(h http.Header, jwt string) {
	h[o.assertion] = []string{jwt}
}

// Encode percent-encodes every byte outside of printable ASCII (0x20 to 0x7E), and the
// percent sign itself, with two upper case hex digits (RFC 3986 section 2.1). The result can
// be sent in a header field, since it holds no CR, LF or NUL. Percent-decoding, such as
// [net/url.PathUnescape], gives s back. A decoder of forms does not: a plus sign stands for
// itself here.
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
