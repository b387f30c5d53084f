package header_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

func TestCheckUpgrade(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		in, want http.Header
	}{
		{"a request without Upgrade", http.Header{"Connection": {"close"}}, http.Header{"Connection": {"close"}}},
		{
			"websocket",
			http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}},
			http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}},
		},
		{
			"websocket in another case",
			http.Header{"Upgrade": {"WebSocket"}, "Connection": {"upgrade"}},
			http.Header{"Upgrade": {"WebSocket"}, "Connection": {"upgrade"}},
		},
		{
			"h2c goes with its settings and its tokens",
			http.Header{"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {"AAMAAABk"}, "Accept": {"*/*"}},
			http.Header{"Accept": {"*/*"}},
		},
		{
			"h2c in another case and over several lines, other tokens stay",
			http.Header{
				"Upgrade": {" H2C ", ",h2c"}, "Connection": {"UPGRADE,close", "http2-settings", "keep-alive"},
				"Http2-Settings": {"AAMAAABk", "AAMAAABk"},
			},
			http.Header{"Connection": {"close", "keep-alive"}},
		},
		{"h2c that Connection does not name", http.Header{"Upgrade": {"h2c"}, "Connection": {"close"}}, http.Header{"Connection": {"close"}}},
		{
			"TLS, as Apache's HttpClient offers it",
			http.Header{"Upgrade": {"TLS/1.2"}, "Connection": {"Upgrade"}, "Accept-Encoding": {"gzip"}},
			http.Header{"Accept-Encoding": {"gzip"}},
		},
		{
			"TLS and h2c in one list, with settings",
			http.Header{"Upgrade": {"TLS/1.2, h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {"x"}},
			http.Header{},
		},
		{"an Upgrade that names nothing", http.Header{"Upgrade": {"", " , "}, "Connection": {"Upgrade, close"}}, http.Header{"Connection": {"close"}}},
		{"an empty Upgrade", http.Header{"Upgrade": {""}, "Connection": {"Upgrade"}}, http.Header{}},
		{"another protocol that Connection does not name", http.Header{"Upgrade": {"foo"}}, http.Header{}},
		{"websocket twice in a list", http.Header{"Upgrade": {"websocket, WEBSOCKET"}, "Connection": {"Upgrade"}}, http.Header{}},
		{"websocket in two lines", http.Header{"Upgrade": {"websocket", "websocket"}, "Connection": {"Upgrade"}}, http.Header{}},
		{"h2c before websocket", http.Header{"Upgrade": {"h2c, websocket"}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {""}}, http.Header{}},
		{"h2c in a line after websocket", http.Header{"Upgrade": {"websocket", "h2c"}, "Connection": {"Upgrade, close"}}, http.Header{"Connection": {"close"}}},
		{"another protocol after websocket", http.Header{"Upgrade": {"websocket, foo"}, "Connection": {"Upgrade"}}, http.Header{}},
		{"websocket with a version", http.Header{"Upgrade": {"websocket/13"}}, http.Header{}},
		{"websocket with a comma", http.Header{"Upgrade": {"websocket,"}}, http.Header{}},
		{"websocket with a letter that folds to one of its own", http.Header{"Upgrade": {"web\u017focket"}}, http.Header{}},
		{"h2, which is for TLS only", http.Header{"Upgrade": {"h2"}}, http.Header{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: tt.in.Clone()}
			if err := header.CheckUpgrade(r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.Header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckUpgradeOfConnect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method, proto string
		major               int
		header              http.Header
		want                error
	}{
		{"a tunnel over HTTP/1", http.MethodConnect, "HTTP/1.1", 1, http.Header{}, header.ErrConnect},
		{"a tunnel over HTTP/1 that dresses up as HTTP/2", http.MethodConnect, "HTTP/1.1", 1, http.Header{":protocol": {"websocket"}}, header.ErrConnect},
		{"a tunnel over HTTP/1 with Upgrade", http.MethodConnect, "HTTP/1.1", 1, http.Header{"Upgrade": {"websocket"}}, header.ErrConnect},
		{"a tunnel over HTTP/2", http.MethodConnect, "HTTP/2.0", 2, http.Header{}, header.ErrConnect},
		{"a tunnel over HTTP/3", http.MethodConnect, "HTTP/3.0", 3, http.Header{}, header.ErrConnect},
		{"WebSocket over HTTP/2", http.MethodConnect, "HTTP/2.0", 2, http.Header{":protocol": {"websocket"}}, nil},
		{"WebSocket over HTTP/3", http.MethodConnect, "websocket", 3, http.Header{}, nil},
		{"WebSocket in a case that reverse_proxy does not know", http.MethodConnect, "HTTP/2.0", 2, http.Header{":protocol": {"WebSocket"}}, header.ErrUpgrade},
		{"UDP over HTTP/2", http.MethodConnect, "HTTP/2.0", 2, http.Header{":protocol": {"connect-udp"}}, header.ErrUpgrade},
		{"WebTransport over HTTP/3", http.MethodConnect, "webtransport", 3, http.Header{}, header.ErrUpgrade},
		{"another method", http.MethodGet, "HTTP/2.0", 2, http.Header{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{Method: tt.method, Proto: tt.proto, ProtoMajor: tt.major, Header: tt.header}
			if err := header.CheckUpgrade(r); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCheckUpgradeAllocatesNothing(t *testing.T) {
	plain, upgrade := commonRequest(), commonRequest()
	upgrade.Header["Upgrade"] = []string{"websocket"}
	for _, r := range []*http.Request{plain, upgrade} {
		allocs := testing.AllocsPerRun(100, func() {
			if err := header.CheckUpgrade(r); err != nil {
				t.Error(err)
			}
		})
		if allocs != 0 {
			t.Errorf("CheckUpgrade allocates %v times", allocs)
		}
	}
}
