package integration_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// spellings are names that some server takes for an identity header.
var spellings = []string{
	"X-Lumio-Key-Id", "x-lumio-key-id", "X-LUMIO-KEY-LABEL", "x_lumio_auth_type", "X_Lumio_Permissions",
	"X.Lumio.Key.Id", "x.lumio.key.label", "X-Lumio_Key.Id", "X_Lumio-Assertion", "X-Lumio-Assertion", "X-Lumio-Tenant",
}

// forged is every spelling twice.
func forged() []field {
	var fields []field
	for _, name := range slices.Concat(spellings, spellings) {
		fields = append(fields, field{name, "forged"})
	}
	return fields
}

// routes are the ways through the proxy: what the upstream may learn on each.
func (p *headerProxy) routes() []route {
	return []route{
		{"with a key", "/with-key", []field{{"Authorization", "Bearer " + p.key}}, p.identity},
		{"passed through without a key", "/pass/anonymous", nil, nil},
		{"passed through with another credential", "/pass/other", []field{{"Authorization", "Basic Zm9vOmJhcg=="}}, nil},
		{"passed through with a key", "/pass/with-key", []field{{"Authorization", "Bearer " + p.key}}, p.identity},
		{"keeping the credential", "/keep/with-key", []field{{"Authorization", "Bearer " + p.key}}, p.identity},
	}
}

type route struct {
	name, path string
	fields     []field
	want       []string
}

// overAll runs check on every route over each of the versions of the protocol.
func overAll(t *testing.T, p *headerProxy, versions []sender, check func(t *testing.T, s sender, r route)) {
	t.Helper()
	for _, s := range versions {
		t.Run(s.name, func(t *testing.T) {
			for _, r := range p.routes() {
				t.Run(r.name, func(t *testing.T) { check(t, s, r) })
			}
		})
	}
}

func (p *headerProxy) expect(t *testing.T, s sender, r route, e exchange) *received {
	t.Helper()
	e.path = r.path
	if got := s.send(t, p, e); got.status != http.StatusOK {
		t.Fatalf("status %d %q, want 200", got.status, got.body)
	}
	request := p.upstream.next(t, r.path)
	if diff := cmp.Diff(r.want, request.identity()); diff != "" {
		t.Errorf("identity at the upstream (-want +got):\n%s", diff)
	}
	return request
}

func TestHeaderSpellingsNeverReachTheUpstream(t *testing.T) {
	p := startHeaderProxy(t)
	overAll(t, p, senders, func(t *testing.T, s sender, r route) {
		fields := slices.Concat(forged(), r.fields, []field{{"X-Other", "kept"}})
		request := p.expect(t, s, r, exchange{method: "GET", fields: fields})
		if got := request.values("X-Other"); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("X-Other %q, want it kept", got)
		}
	})
}

func TestHeaderConnectionRemovesNothing(t *testing.T) {
	p := startHeaderProxy(t)
	tests := []struct {
		name  string
		lines []string
	}{
		{"one line", []string{"X-Lumio-Key-Id"}},
		{"all names in one line", []string{"X-Lumio-Auth-Type,X-Lumio-Key-Id,X-Lumio-Key-Label,X-Lumio-Permissions"}},
		{"two lines", []string{"close, X-Lumio-Key-Id", "X-Lumio-Permissions"}},
		{"another case", []string{"x-lumio-key-id, X-LUMIO-KEY-LABEL"}},
		{"spaces, tabs and empty tokens", []string{" ,\t X-Lumio-Key-Id \t,,\tX-Lumio-Auth-Type,"}},
		{"other separators", []string{"X_Lumio_Key_Id, X.Lumio.Permissions"}},
		{"beside others", []string{"keep-alive, X-Hop, X-Lumio-Key-Id"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			overAll(t, p, only(hasConnection), func(t *testing.T, s sender, r route) {
				fields := slices.Concat(r.fields, []field{{"X-Hop", "hop"}, {"X-Other", "kept"}})
				for _, line := range tt.lines {
					fields = append(fields, field{"Connection", line})
				}
				request := p.expect(t, s, r, exchange{method: "GET", fields: fields})
				if got := request.values("X-Other"); !slices.Equal(got, []string{"kept"}) {
					t.Errorf("X-Other %q, want it kept", got)
				}
				named := strings.Contains(strings.Join(tt.lines, ","), "X-Hop")
				if removed := len(request.values("X-Hop")) == 0; removed != named {
					t.Errorf("X-Hop removed: %v, want %v", removed, named)
				}
			})
		})
	}
}

func TestHeaderConnectionIsMalformedInHTTP2(t *testing.T) {
	p := startHeaderProxy(t)
	for _, s := range only(isHTTP2) {
		t.Run(s.name, func(t *testing.T) {
			got := s.send(t, p, exchange{method: "GET", path: "/with-key", fields: []field{
				{"authorization", "Bearer " + p.key}, {"connection", "x-lumio-key-id"},
			}})
			if got.status != http.StatusBadRequest {
				t.Errorf("status %d, want 400", got.status)
			}
			p.upstream.nothing(t)
		})
	}
}

func TestHeaderTrailersNeverReachTheUpstream(t *testing.T) {
	p := startHeaderProxy(t)
	owned := make([]field, 0, len(spellings)+1)
	for _, name := range spellings {
		owned = append(owned, field{name, "forged"})
	}
	tests := []struct {
		name, announce string
		authorization  bool
	}{
		{"announced", strings.Join(spellings, ", ") + ", X-Sum", false},
		{"not announced beside one that is", "X-Sum", false},
		{"not announced", "", false},
		{"with a credential", "Authorization, X-Sum", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			versions := only(hasTrailers)
			if tt.authorization {
				// The servers of HTTP/2 and HTTP/3 refuse such a trailer themselves.
				versions = only(hasTrailers, hasConnection)
			}
			overAll(t, p, versions, func(t *testing.T, s sender, r route) {
				trailer := slices.Concat(owned, []field{{"X-Sum", "kept"}})
				if tt.authorization {
					trailer = append(trailer, field{"Authorization", "Bearer forged"})
				}
				request := p.expect(t, s, r, exchange{
					method: "POST", fields: r.fields, body: []byte("data"), announce: tt.announce, trailer: trailer,
				})
				if string(request.body) != "data" {
					t.Errorf("body %q, want %q", request.body, "data")
				}
				for _, line := range request.trailer {
					if line != "X-Sum: kept" {
						t.Errorf("trailer %q at the upstream", line)
					}
				}
				// HTTP/3 loses all trailers on the way through Caddy.
				if announced := tt.announce != "" && s.version != overHTTP3; announced != (len(request.trailer) == 1) {
					t.Errorf("trailers %q at the upstream, announced %q", request.trailer, tt.announce)
				}
				for _, line := range request.values("Trailer") {
					if strings.Contains(strings.ToLower(line), "lumio") || strings.Contains(line, "Authorization") {
						t.Errorf("Trailer: %s at the upstream", line)
					}
				}
			})
		})
	}
}

func TestHeaderAuthorizationReachesTheUpstreamOnlyAsConfigured(t *testing.T) {
	p := startHeaderProxy(t)
	want := map[string][]string{
		"/with-key":       nil,
		"/pass/anonymous": nil,
		"/pass/other":     {"Basic Zm9vOmJhcg=="},
		"/pass/with-key":  nil,
		"/keep/with-key":  {"Bearer " + p.key},
	}
	overAll(t, p, senders, func(t *testing.T, s sender, r route) {
		fields := r.fields
		if hasConnection(s) {
			fields = slices.Concat(fields, []field{{"Connection", "Authorization"}})
		}
		request := p.expect(t, s, r, exchange{method: "GET", fields: fields})
		if diff := cmp.Diff(want[r.path], request.values("Authorization")); diff != "" {
			t.Errorf("Authorization at the upstream (-want +got):\n%s", diff)
		}
	})
}

func TestHeaderTwoAuthorizationsAreRefused(t *testing.T) {
	p := startHeaderProxy(t)
	tests := []struct {
		name, first, second string
	}{
		{"a key twice", "Bearer " + p.key, "Bearer " + p.key},
		{"a key and another credential", "Bearer " + p.key, "Basic Zm9vOmJhcg=="},
		{"another credential and a key", "Basic Zm9vOmJhcg==", "Bearer " + p.key},
		{"no key at all", "Basic Zm9vOmJhcg==", "Basic Zm9vOmJhcg=="},
	}
	for _, s := range senders {
		for _, path := range []string{"/with-key", "/pass/with-key", "/keep/with-key"} {
			for _, tt := range tests {
				t.Run(s.name+path+" "+tt.name, func(t *testing.T) {
					got := s.send(t, p, exchange{method: "GET", path: path, fields: []field{
						{"Authorization", tt.first}, {"Authorization", tt.second},
					}})
					if got.status != http.StatusBadRequest {
						t.Errorf("status %d, want 400", got.status)
					}
					if challenge := got.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_request"`) {
						t.Errorf("WWW-Authenticate %q, want an error in it", challenge)
					}
					if !strings.Contains(got.body, `"invalid_request"`) {
						t.Errorf("body %q, want the code invalid_request", got.body)
					}
					p.upstream.nothing(t)
				})
			}
		}
	}
}

// TestHeaderEditsStayInTheirRequest has another handler edit what was injected,
// which must not reach what is kept of the key.
func TestHeaderEditsStayInTheirRequest(t *testing.T) {
	p := startHeaderProxy(t)
	want := slices.Clone(p.identity)
	label := slices.IndexFunc(want, func(line string) bool { return strings.HasPrefix(line, "X-Lumio-Key-Label") })
	want[label] += ", edited"
	want = append(want, "X-Lumio-Key-Label: added")
	slices.Sort(want)
	credential := []field{{"Authorization", "Bearer " + p.key}}
	for range 3 {
		p.expect(t, senders[1], route{path: "/edit/1", want: want}, exchange{method: "GET", fields: credential})
		p.expect(t, senders[1], route{path: "/with-key", want: p.identity}, exchange{method: "GET", fields: credential})
	}
}
