package upstream

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
)

// owns reports whether name is under the prefix, in any spelling that some reader
// could take for it: without case, and with other separators in place of hyphens.
func owns(prefix, name string) bool {
	return len(name) >= len(prefix) && fold(name[:len(prefix)]) == fold(prefix)
}

func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, strings.ToLower(name))
}

// claimed reports whether anything under the prefix was sent.
func claimed(prefix string, header http.Header) bool {
	for name := range header {
		if owns(prefix, name) {
			return true
		}
	}
	return false
}

// signedHeader is a copy of a header that has, under the prefix, what was signed and
// nothing else.
func signedHeader(prefix string, header http.Header, id *Identity) http.Header {
	assertion := header[prefix+"Assertion"]
	clean := maps.Clone(header)
	maps.DeleteFunc(clean, func(name string, _ []string) bool { return owns(prefix, name) })
	clean[prefix+"Assertion"] = assertion
	clean[prefix+"Auth-Type"] = []string{"system_key"}
	clean[prefix+"Key-Id"] = []string{encode(id.KeyID)}
	clean[prefix+"Key-Label"] = []string{encode(id.Label)}
	clean[prefix+"Permissions"] = []string{encode(strings.Join(id.Permissions, ","))}
	return clean
}

// encode percent-encodes what is not printable ASCII, and the percent sign, as the
// proxy does.
func encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7E || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
