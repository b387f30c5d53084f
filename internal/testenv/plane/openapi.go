package plane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi/datamodel"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// OpenAPI compares answers with the description of the REST API, and counts which
// answers were met.
type OpenAPI struct {
	mu   sync.Mutex
	seen map[string]bool // "operation status"
}

// ReadOpenAPI returns the description as it is served.
func ReadOpenAPI(tb testing.TB) *OpenAPI {
	tb.Helper()
	if description().err != nil {
		tb.Fatal(description().err)
	}
	return &OpenAPI{seen: map[string]bool{}}
}

// described is what all tests of a program share, since it is slow to parse.
type described struct {
	text      []byte
	validator validator.Validator
	// operations has them by method and path.
	operations []*Operation
	err        error
}

// Operation is a call of the REST API.
type Operation struct {
	Method, Path                      string
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []struct{ Name, Description string }
	Responses                         map[string]json.RawMessage

	matches *regexp.Regexp
}

var description = sync.OnceValue(func() (d described) {
	handler := admin.NewHandler(admin.Config{Describe: func(*http.Request) store.AuditRequest { return store.AuditRequest{} }})
	w := httptest.NewRecorder()
	_ = handler.Serve(w, httptest.NewRequest(http.MethodGet, OpenAPIPath, http.NoBody), nil)
	d.text = w.Body.Bytes()
	document, err := libopenapi.NewDocumentWithConfiguration(d.text, datamodel.NewDocumentConfiguration())
	if err != nil {
		d.err = err
		return d
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		d.err = errs[0]
		return d
	}
	d.validator = v
	var paths struct {
		Paths map[string]map[string]json.RawMessage
	}
	if d.err = json.Unmarshal(d.text, &paths); d.err != nil {
		return d
	}
	for path, item := range paths.Paths {
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			o := &Operation{
				Method: strings.ToUpper(method), Path: path,
				matches: regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path), `\{id\}`, "[0-9a-f-]{36}") + "$"),
			}
			if d.err = json.Unmarshal(raw, o); d.err != nil {
				return d
			}
			d.operations = append(d.operations, o)
		}
	}
	return d
})

// Document returns the text of the description, its operations, and what the
// specification has against it.
func (*OpenAPI) Document() (text []byte, operations []*Operation, mistakes []string) {
	d := description()
	if ok, errs := d.validator.ValidateDocument(); !ok {
		for _, e := range errs {
			mistakes = append(mistakes, fmt.Sprintf("%s: %s %v", e.Message, e.Reason, e.SchemaValidationErrors))
		}
	}
	return d.text, d.operations, mistakes
}

// check compares an answer with what is documented of its operation. Answers to what is
// no operation are passed over.
func (o *OpenAPI) check(tb testing.TB, response *http.Response, body []byte) {
	tb.Helper()
	d, request := description(), response.Request
	for _, operation := range d.operations {
		if operation.Method != request.Method || !operation.matches.MatchString(request.URL.EscapedPath()) {
			continue
		}
		code := strconv.Itoa(response.StatusCode)
		status := operation.OperationID + " " + code
		if operation.Responses[code] == nil {
			tb.Errorf("%s is not documented: %s", status, body)
			return
		}
		o.mu.Lock()
		o.seen[status] = true
		o.mu.Unlock()
		copied := *response
		copied.Body = io.NopCloser(bytes.NewReader(body))
		if ok, errs := d.validator.ValidateHttpResponse(request, &copied); !ok {
			for _, e := range errs {
				tb.Errorf("%s: %s: %s %v\n%s", status, e.Message, e.Reason, e.SchemaValidationErrors, body)
			}
		}
		return
	}
}

// Complete reports what is documented and was not met.
func (o *OpenAPI) Complete(tb testing.TB) {
	tb.Helper()
	for _, operation := range description().operations {
		for _, code := range slices.Sorted(maps.Keys(operation.Responses)) {
			if status := operation.OperationID + " " + code; !o.seen[status] {
				tb.Errorf("%s was not met", status)
			}
		}
	}
}
