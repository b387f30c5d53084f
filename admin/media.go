package admin

import (
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// mediaForm is the media type of an HTML form that has no files.
const mediaForm = "application/x-www-form-urlencoded"

// checkContentType refuses a body that is not JSON. A form of another site cannot send JSON: for
// this media type a browser asks first (CORS preflight), and gets no permission from us. A POST
// must say what it sends. Other methods need not: most have no body.
func checkContentType(r *http.Request) error {
	if len(r.Header["Content-Type"]) == 0 && r.Method != http.MethodPost {
		return nil
	}
	mediaType, parameters := mediaTypeOf(r)
	charset, set := parameters["charset"]
	if mediaType != MediaJSON || set && !strings.EqualFold(charset, "utf-8") {
		return unsupportedMediaType("the body must be application/json")
	}
	return nil
}

// hasNoBody reports whether a request has no body, and does not say that it has one. The length
// of a body in chunks is not known, so it counts as a body.
func hasNoBody(r *http.Request) bool {
	return r.ContentLength == 0 && len(r.Header["Content-Type"]) == 0
}

// IsForm reports whether the body of a request is that of an HTML form.
func IsForm(r *http.Request) bool {
	mediaType, _ := mediaTypeOf(r)
	return mediaType == mediaForm
}

// mediaTypeOf returns the media type of a body. It is empty if the request does not say it, or
// says it twice, or if the body is compressed. Readers differ in which of two fields counts, and
// nothing here decompresses.
func mediaTypeOf(r *http.Request) (mediaType string, parameters map[string]string) {
	fields := r.Header["Content-Type"]
	if len(fields) != 1 || r.Header.Get("Content-Encoding") != "" {
		return "", nil
	}
	mediaType, parameters, err := mime.ParseMediaType(fields[0])
	if err != nil {
		return "", nil
	}
	return mediaType, parameters
}

// unsupportedMediaType is the answer to a body that is not read.
func unsupportedMediaType(message string) *gate.Refusal {
	return &gate.Refusal{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: message}
}

// Accepts refuses a client that accepts no media type of the answer, before the call changes
// anything.
func (r *Route) Accepts(request *http.Request) error {
	if _, ok := r.Preferred(request); ok {
		return nil
	}
	return &gate.Refusal{
		Status: http.StatusNotAcceptable, Code: "not_acceptable",
		Message: "the answer is " + strings.Join(r.Produces, " or "),
	}
}

// Preferred reads Accept (RFC 9110 section 12.5.1). It returns the media type with the
// highest weight. Among equals the first one wins.
func (r *Route) Preferred(request *http.Request) (string, bool) {
	accept := strings.Join(request.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return r.Produces[0], true
	}
	best, weight := "", 0.0
	for _, mediaType := range r.Produces {
		if q := weightOf(accept, mediaType); q > weight {
			best, weight = mediaType, q
		}
	}
	return best, weight > 0
}

// weightOf is the weight of the most specific range that matches, or 0. A range without
// a weight has 1 (RFC 9110 section 12.4.2).
//
// A part that cannot be read is skipped, as if it was not there.
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

// hostOf returns a Host field without its port, the brackets of IPv6, and the dot at the end of
// a full name: all of these name the same host.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

// ReadForm reads a form as strictly as [Decode] reads JSON. Unknown and repeated fields are
// refused, missing fields are empty, and parameters of the URL do not count. The error is a
// refusal.
func ReadForm(w http.ResponseWriter, r *http.Request, allowed ...string) (map[string]string, error) {
	if !IsForm(r) {
		return nil, unsupportedMediaType("the body must be a form")
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, maxBody), 0)
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, BadRequest("malformed form")
	}
	return onlyOnce(values, "field", allowed)
}
