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

// ClientTarget is the target as the proxy hands it on: the path that has arrived,
// however a handler before may have changed it, under X-Forwarded-Proto and
// X-Forwarded-Host, or the request's own scheme and Host where these are missing.
//
// All of that is written by whoever sends the request. It does not have to be
// believed: an assertion is compared with it, and fits if the request is the one
// that it was made for.
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

// escapedPath is the path as it was sent; an empty one, of the absolute form, is "/"
// (RFC 9110 section 4.2.3). Handlers such as [http.StripPrefix]
// change r.URL, and leave r.RequestURI as it is.
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

// origin is in the form in which the proxy signs it.
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
