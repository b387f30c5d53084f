package header_test

import (
	"net/url"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

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
