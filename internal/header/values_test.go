package header_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

const keyID = "0197a1f2-3b4c-7d5e-8f60-718293a4b5c6"

func TestInject(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, prefix, label string
		permissions         []string
		want                http.Header
	}{
		{
			"permissions come sorted", "X-Lumio-", "deploy bot",
			[]string{"bots:write", "bots:read"},
			http.Header{
				"X-Lumio-Auth-Type": {"system_key"}, "X-Lumio-Key-Id": {keyID},
				"X-Lumio-Key-Label": {"deploy bot"}, "X-Lumio-Permissions": {"bots:read,bots:write"},
			},
		},
		{
			"without permissions the field is there and empty", "x-acme-edge-", "ci", nil,
			http.Header{
				"X-Acme-Edge-Auth-Type": {"system_key"}, "X-Acme-Edge-Key-Id": {keyID},
				"X-Acme-Edge-Key-Label": {"ci"}, "X-Acme-Edge-Permissions": {""},
			},
		},
		{
			"label and permissions cannot break out of their field", "X-Lumio-", "é 100%\r\nX-Evil: 1",
			[]string{"a:b\nc"},
			http.Header{
				"X-Lumio-Auth-Type": {"system_key"}, "X-Lumio-Key-Id": {keyID},
				"X-Lumio-Key-Label": {"%C3%A9 100%25%0D%0AX-Evil: 1"}, "X-Lumio-Permissions": {"a:b%0Ac"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			values := header.Render(keyID, tt.label, tt.permissions)
			h := make(http.Header)
			newOwner(t, tt.prefix).Inject(h, &values)
			if diff := cmp.Diff(tt.want, h); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderLeavesPermissionsInTheirOrder(t *testing.T) {
	t.Parallel()
	permissions := []string{"b:b", "a:a"}
	header.Render(keyID, "ci", permissions)
	if diff := cmp.Diff([]string{"b:b", "a:a"}, permissions); diff != "" {
		t.Errorf("permissions (-want +got):\n%s", diff)
	}
}

func TestInjectReplacesWhatIsThere(t *testing.T) {
	t.Parallel()
	values := header.Render(keyID, "ci", nil)
	h := http.Header{"X-Lumio-Key-Id": {"forged", "twice"}, "Accept": {"*/*"}}
	newOwner(t, "X-Lumio-").Inject(h, &values)
	if got := h["X-Lumio-Key-Id"]; !cmp.Equal(got, []string{keyID}) {
		t.Errorf("X-Lumio-Key-Id = %q, want %q alone", got, keyID)
	}
	if got := h.Get("Accept"); got != "*/*" {
		t.Errorf("Accept = %q, want it left alone", got)
	}
}

// Handlers such as request_header edit the values of a field where they are. Package gate has
// the test that the next request does not see it.
func TestEditsOfOneFieldReachNoOther(t *testing.T) {
	t.Parallel()
	owner := newOwner(t, "X-Lumio-")
	values := header.Render(keyID, "ci", []string{"a:b"})
	first := make(http.Header)
	owner.Inject(first, &values)
	for name := range first {
		first[name][0] = "edited"
		first.Add(name, "appended")
	}
	for name, lines := range first {
		if diff := cmp.Diff([]string{"edited", "appended"}, lines); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestInjectAssertion(t *testing.T) {
	t.Parallel()
	h := http.Header{"X-Lumio-Assertion": {"forged", "twice"}}
	newOwner(t, "X-Lumio-").InjectAssertion(h, "a.b.c")
	if diff := cmp.Diff(http.Header{"X-Lumio-Assertion": {"a.b.c"}}, h); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestInjectAllocatesNothing(t *testing.T) {
	owner := newOwner(t, "X-Lumio-")
	values := header.Render(keyID, "deploy bot", []string{"bots:read"})
	h := commonRequest().Header
	owner.Inject(h, &values) // the map grows here
	if allocs := testing.AllocsPerRun(100, func() { owner.Inject(h, &values) }); allocs != 0 {
		t.Errorf("Inject allocates %v times", allocs)
	}
}

func BenchmarkInject(b *testing.B) {
	owner := newOwner(b, "X-Lumio-")
	values := header.Render(keyID, "deploy bot", []string{"bots:read"})
	h := commonRequest().Header
	b.ReportAllocs()
	for b.Loop() {
		owner.Inject(h, &values)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"printable ASCII stays", ` !"#$&'()*+,-./09:;<=>?@AZ[\]^_` + "`az{|}~", ` !"#$&'()*+,-./09:;<=>?@AZ[\]^_` + "`az{|}~"},
		{"the percent sign, so that decoding is unambiguous", "100% %41", "100%25 %2541"},
		{"UTF-8 byte by byte", "Ünï 🤖", "%C3%9Cn%C3%AF %F0%9F%A4%96"},
		{"control characters", "a\x00\t\r\n\x1f\x7fb", "a%00%09%0D%0A%1F%7Fb"},
		{"bytes that are not UTF-8", "\x80\xff", "%80%FF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := header.Encode(tt.in); got != tt.want {
				t.Errorf("Encode(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestEncodeAllocatesNothingForPlainText(t *testing.T) {
	var sink string
	if allocs := testing.AllocsPerRun(100, func() { sink = header.Encode("deploy bot") }); allocs != 0 {
		t.Errorf("Encode allocates %v times for %q", allocs, sink)
	}
}

// FuzzEncode holds that what is encoded can be sent, and decodes to what it
// was.
func FuzzEncode(f *testing.F) {
	for _, seed := range []string{"", "deploy bot", "100%", "%41", "é", "a\r\nX-Lumio-Key-Id: 1", "\x00", "\x80\xff", "\u2028", " a "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, label string) {
		encoded := header.Encode(label)
		if !httpguts.ValidHeaderFieldValue(encoded) {
			t.Errorf("Encode(%q) = %q cannot be sent", label, encoded)
		}
		for i := range len(encoded) {
			if c := encoded[i]; c < 0x20 || c > 0x7E {
				t.Errorf("Encode(%q) = %q has byte %#x in it", label, encoded, c)
			}
		}
		decoded, err := url.PathUnescape(encoded)
		if err != nil || decoded != label {
			t.Errorf("decoding %q gives %q, %v, want %q", encoded, decoded, err, label)
		}
	})
}
