package gate

import (
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// misplaced names the place of a request that holds a system key and is not for one,
// or is empty. Such a key would go on to the upstream, into its logs and those of
// every hop between, and its client would never notice.
//
// The places are the query, every header field but Authorization, their names, the
// Host, the cookies, and what the Basic scheme encodes, in whichever field. The path
// is none: it names a resource, and logs and audit records have it redacted. The
// body is not read.
func misplaced(r *http.Request) string {
	if place := outsideHeader(r); place != "" {
		return place
	}
	for name, values := range r.Header {
		if fieldHolds(name, values) {
			return placeOf(name)
		}
	}
	return ""
}

// outsideHeader is misplaced for the query and the Host.
func outsideHeader(r *http.Request) string {
	if r.URL != nil && token.Mentions(r.URL.RawQuery) && (token.Holds(r.URL.RawQuery) || tokenInQuery(r.URL.RawQuery)) {
		return "the query"
	}
	if token.Holds(r.Host) {
		return "the header field Host"
	}
	return ""
}

// fieldHolds reports whether a header field holds a key where none belongs.
func fieldHolds(name string, values []string) bool {
	for _, value := range values {
		if len(value) >= token.LeastHeld && valueHolds(name, value) {
			return true
		}
	}
	return token.Holds(name)
}

func valueHolds(name, value string) bool {
	return token.BasicHolds(value) || name != "Authorization" && token.Holds(value)
}

// placeOf names a field that holds a key.
func placeOf(name string) string {
	switch {
	case name == "Authorization":
		return "the Basic credentials in the header field Authorization"
	case name == "Cookie":
		return "a cookie"
	case token.Mentions(name):
		return "the name of a header field"
	}
	return "the header field " + name
}

// hide takes misplaced keys out of a request that was refused, since an error route
// may well be another proxy.
func hide(r *http.Request) {
	for name, values := range r.Header {
		if fieldHolds(name, values) {
			delete(r.Header, name)
		}
	}
	if r.URL != nil {
		r.URL.RawQuery = token.Redact(r.URL.RawQuery)
	}
	if token.Holds(r.Host) {
		r.Host = ""
	}
}
