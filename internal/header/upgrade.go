package header

import (
	"errors"
	"net/http"
	"strings"
)

// Errors of [CheckUpgrade].
var (
	// ErrConnect reports a request for a tunnel to another host.
	ErrConnect = errors.New("method CONNECT is not allowed")
	// ErrUpgrade reports a CONNECT for a protocol other than WebSocket.
	ErrUpgrade = errors.New("CONNECT is for websocket only")
)

const websocket = "websocket"

// CheckUpgrade decides which change of protocol r may ask for. It lets WebSocket through, as
// an upgrade of HTTP/1 and as the extended CONNECT of HTTP/2 (RFC 8441) and HTTP/3 (RFC
// 9220). CONNECT for another protocol gives [ErrUpgrade], and CONNECT without a protocol
// [ErrConnect].
//
// An Upgrade field must be exactly websocket, in any case. Any other is taken out of the
// request, together with HTTP2-Settings and the names of both in Connection. The request is
// then served without an upgrade, as RFC 9110 section 7.8 allows: clients offer TLS or h2c
// of their own accord. A list with websocket in it is taken out too, since reverse_proxy and
// the upstream could choose different protocols from it.
//
// The Upgrade field counts even if Connection does not name it.
func CheckUpgrade(r *http.Request) error {
	if r.Method == http.MethodConnect {
		return checkConnect(r)
	}
	lines := r.Header["Upgrade"]
	if len(lines) == 0 || len(lines) == 1 && isWebSocket(lines[0]) {
		return nil
	}
	delete(r.Header, "Upgrade")
	delete(r.Header, "Http2-Settings")
	dropTokens(r.Header, "Connection", func(token string) bool {
		return strings.EqualFold(token, "Upgrade") || strings.EqualFold(token, "HTTP2-Settings")
	})
	return nil
}

// isWebSocket compares ASCII letters without case. The length excludes "webſocket", which
// EqualFold alone would accept.
func isWebSocket(protocol string) bool {
	return len(protocol) == len(websocket) && strings.EqualFold(protocol, websocket)
}

// checkConnect tells an extended CONNECT from a plain one. net/http keeps the pseudo-header
// :protocol among the fields, and quic-go puts it into r.Proto. The comparison is with case,
// because reverse_proxy compares both so: it would send "WebSocket" on as CONNECT.
func checkConnect(r *http.Request) error {
	var protocol string
	switch r.ProtoMajor {
	case 2:
		if values := r.Header[":protocol"]; len(values) > 0 {
			protocol = values[0]
		}
	case 3:
		if !strings.HasPrefix(r.Proto, "HTTP/") {
			protocol = r.Proto
		}
	}
	switch protocol {
	case "":
		return ErrConnect
	case websocket:
		return nil
	default:
		return ErrUpgrade
	}
}
