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

// CheckUpgrade decides which change of protocol r may ask for. WebSocket is
// let through, as an upgrade of HTTP/1 and as the extended CONNECT of HTTP/2
// (RFC 8441) and HTTP/3 (RFC 9220). CONNECT for another protocol gives
// [ErrUpgrade], CONNECT without one [ErrConnect].
//
// An Upgrade field that is anything but exactly websocket, in any case, is taken
// out of the request together with HTTP2-Settings and the names of both in
// Connection. The request is then served as it is, which is what RFC 9110
// section 7.8 has a server do that does not want to upgrade: clients offer TLS
// or h2c of their own accord. A list with websocket in it is taken out too, since
// reverse_proxy and the upstream could choose different protocols from it.
//
// The Upgrade field counts also where Connection does not name it.
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

// isWebSocket compares ASCII letters without case. The length keeps out "webſocket",
// which EqualFold alone would take for it.
func isWebSocket(protocol string) bool {
	return len(protocol) == len(websocket) && strings.EqualFold(protocol, websocket)
}

// checkConnect tells an extended CONNECT from a plain one. net/http keeps the
// pseudo-header :protocol among the fields, quic-go puts it into r.Proto.
// reverse_proxy compares both with case, so "WebSocket" would be sent on as
// CONNECT.
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
