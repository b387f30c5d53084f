package header

import (
	"errors"
	"net/http"
	"net/textproto"
	"strings"
)

// Errors of [CheckUpgrade].
var (
	// ErrConnect reports a request for a tunnel to another host.
	ErrConnect = errors.New("method CONNECT is not allowed")
	// ErrUpgrade reports a request for a protocol other than WebSocket.
	ErrUpgrade = errors.New("the connection can be upgraded to websocket only")
)

const websocket = "websocket"

// CheckUpgrade decides which change of protocol r may ask for. WebSocket is
// let through, as an upgrade of HTTP/1 and as the extended CONNECT of HTTP/2
// (RFC 8441) and HTTP/3 (RFC 9220). A wish for h2c is taken out of the request
// together with HTTP2-Settings, so that it is served as HTTP/1.1, which is
// what RFC 9110 section 7.8 has a server do that does not want to upgrade. Any
// other protocol gives [ErrUpgrade], CONNECT without one [ErrConnect]; r is
// not changed then.
//
// The Upgrade field counts also where Connection does not name it.
func CheckUpgrade(r *http.Request) error {
	if r.Method == http.MethodConnect {
		return checkConnect(r)
	}
	lines := r.Header["Upgrade"]
	if len(lines) == 0 || len(lines) == 1 && strings.EqualFold(lines[0], websocket) {
		return nil
	}
	var toWebSocket, toH2C bool
	for _, line := range lines {
		for protocol := range strings.SplitSeq(line, ",") {
			switch protocol = textproto.TrimString(protocol); {
			case strings.EqualFold(protocol, websocket):
				toWebSocket = true
			case strings.EqualFold(protocol, "h2c"):
				toH2C = true
			case protocol != "":
				return ErrUpgrade
			}
		}
	}
	if toH2C {
		delete(r.Header, "Http2-Settings")
	}
	if toWebSocket {
		// One line with one token: reverse_proxy forwards the first line as it
		// stands, so the upstream must find nothing else in it.
		r.Header["Upgrade"] = []string{websocket}
	} else {
		delete(r.Header, "Upgrade")
	}
	dropTokens(r.Header, "Connection", func(token string) bool {
		return toH2C && strings.EqualFold(token, "HTTP2-Settings") ||
			!toWebSocket && strings.EqualFold(token, "Upgrade")
	})
	return nil
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
