package integration_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi/datamodel"
)

// openAPI is the description of the REST API, as it is served.
type openAPI struct {
	validator validator.Validator
	// documented are operations and their statuses, as "operation status".
	documented map[string]bool
	paths      []describedPath

	mu   sync.Mutex
	seen map[string]bool
}

type describedPath struct {
	matches    *regexp.Regexp
	operations map[string]string // method to operation id
}

func readOpenAPI(tb testing.TB) *openAPI {
	tb.Helper()
	text, err := os.ReadFile("../admin/openapi.json")
	if err != nil {
		tb.Fatal(err)
	}
	document, err := libopenapi.NewDocumentWithConfiguration(text, datamodel.NewDocumentConfiguration())
	if err != nil {
		tb.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		tb.Fatal(errs)
	}
	o := &openAPI{validator: v, documented: map[string]bool{}, seen: map[string]bool{}}
	for path, item := range describedPaths(tb, text) {
		p := describedPath{
			matches:    regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path), `\{id\}`, "[0-9a-f-]{36}") + "$"),
			operations: map[string]string{},
		}
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			operation := describedOperation(tb, raw)
			p.operations[strings.ToUpper(method)] = operation.OperationID
			for status := range operation.Responses {
				o.documented[operation.OperationID+" "+status] = true
			}
		}
		o.paths = append(o.paths, p)
	}
	return o
}

type operation struct {
	OperationID, Summary, Description string
	Tags                              []string
	Security                          []map[string][]string
	Parameters                        []struct{ Name, Description string }
	Responses                         map[string]json.RawMessage
}

func describedPaths(tb testing.TB, text []byte) map[string]map[string]json.RawMessage {
	tb.Helper()
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &document); err != nil {
		tb.Fatal(err)
	}
	return document.Paths
}

func describedOperation(tb testing.TB, raw json.RawMessage) *operation {
	tb.Helper()
	o := new(operation)
	if err := json.Unmarshal(raw, o); err != nil {
		tb.Fatal(err)
	}
	return o
}

// check compares an answer with what is documented of its operation. Answers to
// what is no operation are passed over.
func (o *openAPI) check(tb testing.TB, request *http.Request, response *http.Response, body []byte) {
	tb.Helper()
	for _, path := range o.paths {
		id := path.operations[request.Method]
		if id == "" || !path.matches.MatchString(request.URL.EscapedPath()) {
			continue
		}
		status := id + " " + strconv.Itoa(response.StatusCode)
		if !o.documented[status] {
			tb.Errorf("%s is not documented: %s", status, body)
			return
		}
		o.mu.Lock()
		o.seen[status] = true
		o.mu.Unlock()
		copied := *response
		copied.Body = io.NopCloser(bytes.NewReader(body))
		if ok, errs := o.validator.ValidateHttpResponse(request, &copied); !ok {
			for _, e := range errs {
				tb.Errorf("%s: %s: %s %v\n%s", status, e.Message, e.Reason, e.SchemaValidationErrors, body)
			}
		}
		return
	}
}

// complete reports what is documented and was not met.
func (o *openAPI) complete(tb testing.TB) {
	tb.Helper()
	for _, status := range slices.Sorted(maps.Keys(o.documented)) {
		if !o.seen[status] {
			tb.Errorf("%s was not met", status)
		}
	}
}

// TestOpenAPIIsWellFormed checks the description against the specification, and
// for what the specification leaves open and its readers need.
func TestOpenAPIIsWellFormed(t *testing.T) {
	o := readOpenAPI(t)
	if ok, errs := o.validator.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s %v", e.Message, e.Reason, e.SchemaValidationErrors)
		}
	}
	text, err := os.ReadFile("../admin/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for path, item := range describedPaths(t, text) {
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			operation := describedOperation(t, raw)
			name := method + " " + path
			if operation.OperationID == "" || ids[operation.OperationID] {
				t.Errorf("%s: the id %q is missing or not the only one", name, operation.OperationID)
			}
			ids[operation.OperationID] = true
			if operation.Summary == "" || operation.Description == "" || len(operation.Tags) != 1 || strings.HasSuffix(operation.Summary, ".") {
				t.Errorf("%s: needs a summary without a full stop, a description and one tag", name)
			}
			for _, p := range operation.Parameters {
				if p.Description == "" || p.Name == "" {
					t.Errorf("%s: parameter %q has no description", name, p.Name)
				}
			}
		}
	}
	unused(t, text)
}

// unused finds components that nothing refers to, and references to nothing.
func unused(t *testing.T, text []byte) {
	t.Helper()
	var document struct {
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	referred := map[string]bool{}
	for _, match := range regexp.MustCompile(`"#/components/([a-zA-Z]+/[a-zA-Z]+)"`).FindAllStringSubmatch(string(text), -1) {
		referred[match[1]] = true
	}
	for kind, components := range document.Components {
		for name := range components {
			if kind != "securitySchemes" && !referred[kind+"/"+name] {
				t.Errorf("nothing refers to %s/%s", kind, name)
			}
			delete(referred, kind+"/"+name)
		}
	}
	for missing := range referred {
		t.Errorf("there is no %s", missing)
	}
}
