package assertion

import (
	"strings"
)

// Target is the URL of a request as an assertion has it: without query, the
// scheme and the host in lower case, without the scheme's own port. The path is
// as it was escaped by the client; an empty one, of the absolute form, is "/" (RFC
// 9110 section 4.2.3). Scheme and host are those that the client has used.
func Target(scheme, host, escapedPath string) string {
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	switch escapedPath {
	case "":
		escapedPath = "/"
	case "*": // OPTIONS of the server as a whole: RFC 9110 section 7.1
		escapedPath = ""
	}
	return scheme + "://" + host + escapedPath
}
