package upstream

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
)

// owns reports whether the name of a header field is under the prefix. It counts every
// spelling that some reader may take for the prefix.
func owns(prefix, name string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if fold(name[i]) != fold(prefix[i]) {
			return false
		}
	}
	return true
}

// fold gives the byte that a byte of a field name is compared as. Letters are compared
// without case, and every other byte that is no digit counts as a hyphen. The proxy
// does the same (internal/header).
func fold(c byte) byte {
	switch {
	case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return c
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	}
	return '-'
}

// hasOwned reports whether a header has any field under the prefix.
func hasOwned(prefix string, header http.Header) bool {
	for name := range header {
		if owns(prefix, name) {
			return true
		}
	}
	return false
}

// signedHeader is a copy of a header. Under the prefix it has what was signed, and
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

// encode percent-encodes the percent sign and every byte that is not printable ASCII. The
// proxy does the same.
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
