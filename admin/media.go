package admin

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// checkContentType refuses a body that is not JSON. A form of another site cannot send
// JSON.
func checkContentType(r *http.Request) error {
	fields := r.Header.Values("Content-Type")
	if len(fields) == 0 && r.Method != http.MethodPost {
		return nil
	}
	if len(fields) == 1 && r.Header.Get("Content-Encoding") == "" {
		mediaType, parameters, err := mime.ParseMediaType(fields[0])
		charset, set := parameters["charset"]
		if err == nil && mediaType == MediaJSON && (!set || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return &gate.Refusal{
		Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
		Message: "the body must be application/json",
	}
}

// Accepts refuses a client that accepts no media type of the answer.
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

// weightOf is the weight of the most specific range that matches.
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

// hostOf returns a Host field without its port.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

const mediaForm = "application/x-www-form-urlencoded"

// IsForm reports whether the body of a request is that of a form.
func IsForm(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && mediaType == mediaForm && len(r.Header.Values("Content-Type")) == 1 &&
		r.Header.Get("Content-Encoding") == ""
}

// ReadForm reads a form as strictly as [Decode] reads JSON. Unknown and repeated
// fields are refused, missing fields are empty, and parameters of the URL do not
// count.
func ReadForm(w http.ResponseWriter, r *http.Request, known ...string) (map[string]string, error) {
	if !IsForm(r) {
		return nil, &gate.Refusal{
			Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "the body must be a form",
		}
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, maxBody), 0)
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, BadRequest("malformed form")
	}
	form := make(map[string]string, len(known))
	for name, all := range values {
		switch {
		case !slices.Contains(known, name):
			return nil, BadRequest(fmt.Sprintf("unknown field %.100q", name))
		case len(all) > 1:
			return nil, BadRequest(name + " is there twice")
		}
		form[name] = all[0]
	}
	return form, nil
}
