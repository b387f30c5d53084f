package admin

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

const mediaForm = "application/x-www-form-urlencoded"

// isForm reports whether the body of a request is that of a form.
func isForm(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && mediaType == mediaForm && len(r.Header.Values("Content-Type")) == 1 &&
		r.Header.Get("Content-Encoding") == ""
}

// readForm reads a form as strictly as [decode] reads JSON: no field that is not
// known, and none twice. Fields that are missing are empty. What comes in the URL
// does not count.
func readForm(w http.ResponseWriter, r *http.Request, known ...string) (map[string]string, error) {
	if !isForm(r) {
		return nil, &gate.Refusal{
			Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "the body must be a form",
		}
	}
	body, err := read(http.MaxBytesReader(w, r.Body, maxBody), 0)
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, badRequest("malformed form")
	}
	form := make(map[string]string, len(known))
	for name, all := range values {
		switch {
		case !slices.Contains(known, name):
			return nil, badRequest(fmt.Sprintf("unknown field %.100q", name))
		case len(all) > 1:
			return nil, badRequest(name + " is there twice")
		}
		form[name] = all[0]
	}
	return form, nil
}
