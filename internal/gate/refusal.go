package gate

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// Refusal is an answer in place of the upstream's. Its message is generic: it never says
// what was wrong with a credential, and never contains one.
type Refusal struct {
	// Reason is for metrics and logs, and the client does not get it. It is empty for an
	// answer of the admin plane.
	Reason  Reason
	Status  int
	Code    string
	Message string
	// Fields maps each bad field of the request's body to what is wrong with it.
	Fields map[string]string
	// Header holds the header fields of the answer.
	Header http.Header
	// Err is the cause, for the log. It is nil if the code says enough.
	Err error
}

func (r *Refusal) Error() string { return r.Message }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Body is the JSON body of every refusal.
type Body struct {
	Error BodyError `json:"error"`
	// Errors repeats the error for a client that expects GraphQL.
	Errors []any `json:"errors,omitempty"`
}

// BodyError is the error in a [Body].
type BodyError struct {
	Code      string            `json:"code"`
	Message   string            `json:"message"`
	Status    int               `json:"status"`
	RequestID string            `json:"request_id"`
	Fields    map[string]string `json:"fields,omitempty"`
}

// Body returns the body of the answer to the request with this id. The message may repeat
// what the client has sent, so Body takes keys out of it.
func (r *Refusal) Body(requestID string) Body {
	return Body{Error: BodyError{
		Code: r.Code, Message: token.Redact(strings.ToValidUTF8(r.Message, "\uFFFD")),
		Status: r.Status, RequestID: requestID, Fields: r.Fields,
	}}
}

// Realm is the protection space of RFC 9110 section 11.5 in every challenge.
const Realm = "lumio"

// challenge returns a WWW-Authenticate field (RFC 6750 section 3).
func challenge(attributes ...string) http.Header {
	all := append([]string{`Bearer realm="` + Realm + `"`}, attributes...)
	return http.Header{"Www-Authenticate": {strings.Join(all, ", ")}}
}

// The answers of the proxy. RFC 6750 section 3.1 defines the codes. The challenge to a
// request without any credential has no code.
var (
	refuseConnect = &Refusal{
		Reason: DeniedRequest,
		Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
		Message: "CONNECT is not served here",
		Header:  http.Header{"Allow": {"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}},
	}
	refuseUpgrade = &Refusal{
		Reason: DeniedRequest,
		Status: http.StatusBadRequest, Code: "invalid_request",
		Message: "CONNECT is served for websocket only",
	}
	refuseAmbiguous = &Refusal{
		Reason: DeniedRequest,
		Status: http.StatusBadRequest, Code: "invalid_request",
		Message: "send one system key, in one Authorization header field",
		Header:  challenge(`error="invalid_request"`),
	}
	refuseAnonymous = &Refusal{
		Reason: DeniedNoKey,
		Status: http.StatusUnauthorized, Code: "unauthorized",
		Message: "a system key is required",
		Header:  challenge(),
	}
)

// Anonymous returns the answer to a request without a key if one is required.
func Anonymous() *Refusal { return refuseAnonymous }

// CodeInvalid is the code of [Invalid] (RFC 6750 section 3.1).
const CodeInvalid = "invalid_token"

// Invalid returns the answer to a bad key. For every reason the client gets the same
// answer.
func Invalid(reason Reason) *Refusal {
	return &Refusal{
		Reason: reason,
		Status: http.StatusUnauthorized, Code: CodeInvalid,
		Message: "the system key is not valid",
		Header:  challengeInvalid,
	}
}

var challengeInvalid = challenge(`error="invalid_token"`)

// refuseMisplaced names the place of a misplaced key, and does not repeat its text.
func refuseMisplaced(place string) *Refusal {
	return &Refusal{
		Reason: DeniedMisplaced,
		Status: http.StatusBadRequest, Code: "invalid_request",
		Message: "there is a system key in " + place + ": send it as a bearer token in one Authorization header field, and nowhere else",
		Header:  challenge(`error="invalid_request"`),
	}
}

// Unavailable returns the answer while no key can be verified.
func Unavailable(reason Reason, retryAfter time.Duration, cause error) *Refusal {
	return &Refusal{
		Reason: reason,
		Status: http.StatusServiceUnavailable, Code: "unavailable",
		Message: "the system key cannot be verified at the moment",
		Header:  waitFor(retryAfter),
		Err:     cause,
	}
}

// waitFor returns a Retry-After field (RFC 9110 section 10.2.3), in whole seconds.
func waitFor(d time.Duration) http.Header {
	return http.Header{"Retry-After": {strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))}}
}

// RetryAfter returns the same answer with the time after which the client may try again.
func (r *Refusal) RetryAfter(wait time.Duration) *Refusal {
	later := *r
	later.Header = r.Header.Clone()
	maps.Copy(later.Header, waitFor(wait))
	return &later
}

// TooMany returns the answer in place of [Invalid] to a client that has sent too many bad
// keys (RFC 6585 section 4).
func TooMany(retryAfter time.Duration) *Refusal {
	return &Refusal{
		Reason: DeniedTooMany,
		Status: http.StatusTooManyRequests, Code: "too_many_failures",
		Message: "too many system keys that are not valid came from this address",
		Header:  waitFor(retryAfter),
	}
}

var refuseNetwork = &Refusal{
	Reason: DeniedNetwork,
	Status: http.StatusForbidden, Code: "network_not_allowed",
	Message: "the system key may not be used from this network",
}

// OtherNetwork returns the answer to a good key from outside of its networks.
func OtherNetwork() *Refusal { return refuseNetwork }

// refuseScope returns the answer to a key that lacks one of the required permissions.
func refuseScope(required []string) *Refusal {
	return &Refusal{
		Reason: DeniedPermission,
		Status: http.StatusForbidden, Code: "insufficient_scope",
		Message: "the system key lacks a required permission",
		Header: challenge(`error="insufficient_scope"`,
			fmt.Sprintf(`scope="%s"`, strings.Join(required, " "))),
	}
}
