package admin

import (
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// checkContentType refuses a body in any form but JSON. What a plain form of
// another site can send has none of these types.
func checkContentType(r *http.Request) error {
	fields := r.Header.Values("Content-Type")
	if len(fields) == 0 && r.Method != http.MethodPost {
		return nil
	}
	if len(fields) == 1 && r.Header.Get("Content-Encoding") == "" {
		mediaType, parameters, err := mime.ParseMediaType(fields[0])
		charset, set := parameters["charset"]
		if err == nil && mediaType == mediaJSON && (!set || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return &gate.Refusal{
		Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
		Message: "the body must be application/json",
	}
}

// accepts refuses a client that wants none of the forms that the answer has.
func (r *route) accepts(request *http.Request) error {
	if _, ok := r.preferred(request); ok {
		return nil
	}
	return &gate.Refusal{
		Status: http.StatusNotAcceptable, Code: "not_acceptable",
		Message: "the answer is " + strings.Join(r.produces, " or "),
	}
}

// preferred reads Accept as RFC 9110 section 12.5.1 has it: the media type of the
// answer with the highest weight, and of several with the same the first.
func (r *route) preferred(request *http.Request) (string, bool) {
	accept := strings.Join(request.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return r.produces[0], true
	}
	best, weight := "", 0.0
	for _, mediaType := range r.produces {
		if q := weightOf(accept, mediaType); q > weight {
			best, weight = mediaType, q
		}
	}
	return best, weight > 0
}

// weightOf is that of the most specific range that matches.
func weightOf(accept, mediaType string) float64 {
	kind, _, _ := strings.Cut(mediaType, "/")
	weight, specificity := 0.0, 0
	for part := range strings.SplitSeq(accept, ",") {
		accepted, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		matched := map[string]int{mediaType: 3, kind + "/*": 2, "*/*": 1}[accepted]
		if matched <= specificity {
			continue
		}
		specificity, weight = matched, 1
		if q, err := strconv.ParseFloat(parameters["q"], 64); err == nil {
			weight = q
		}
	}
	return weight
}

// hostOf is a Host field without its port.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}
