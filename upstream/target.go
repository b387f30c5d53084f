package upstream

import (
	"net/http"
	"net/url"
	"strings"
)

// Target is what a client asked for: the method, and the URL without its query.
type Target struct {
	Method, URL string
}

// ClientTarget is the target as the proxy hands it on. It has the path that arrived, also
// if an earlier handler has changed r.URL. Scheme and host are those of
// X-Forwarded-Proto and X-Forwarded-Host, or else the request's own.
//
// The sender of a request can write anything into these fields. That does no harm: an
// assertion fits only if it was made for the target that they say.
func ClientTarget(r *http.Request) Target {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if forwarded := r.Header.Get("X-Forwarded-Proto"); forwarded != "" {
		scheme = forwarded
	}
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
		host = forwarded
	}
	return Target{r.Method, origin(scheme, host) + escapedPath(r)}
}

// escapedPath is the path as it was sent. It reads r.RequestURI, since handlers such as
// [http.StripPrefix] change r.URL. An empty path of the absolute form is "/" (RFC 9110
// section 4.2.3).
func escapedPath(r *http.Request) string {
	u := r.URL
	if r.RequestURI != "" {
		if sent, err := url.ParseRequestURI(r.RequestURI); err == nil {
			u = sent
		}
	}
	switch u.Path {
	case "":
		return "/"
	case "*": // OPTIONS of the server as a whole: RFC 9110 section 7.1
		return ""
	}
	return u.EscapedPath()
}

// origin is scheme and host in the form that the proxy signs: in lower case, and without
// the port that the scheme has by default.
func origin(scheme, host string) string {
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return scheme + "://" + host
}
