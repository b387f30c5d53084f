package command

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheTableOfKeysFitsTheTerminal: no line of it is longer than a terminal of a usual width,
// the id and the label are always there, and what was left out is named. Where there is no
// terminal nothing is left out.
func TestTheTableOfKeysFitsTheTerminal(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	keys := []store.Key{
		{ID: store.ID{1}, Label: "Überall", CreatedAt: at, IsSystem: true},
		{ID: store.ID{2}, Label: "many", CreatedAt: at, ExpiresAt: at, Networks: store.Networks{netip.MustParsePrefix("192.0.2.0/24")}},
	}
	for i := range 50 {
		keys[1].Permissions = append(keys[1].Permissions, fmt.Sprintf("a:r%02d", i))
	}
	for _, c := range []struct {
		width      int
		has, lacks string
	}{
		{0, "a:r49 NETWORKS CREATED EXPIRES", "more left"},
		{200, "NETWORKS CREATED LAST EXPIRES a:r03 +46 system", "a:r04 left"},
		{142, "NETWORKS LAST EXPIRES created", "CREATED a:r04"},
		{120, "LAST EXPIRES created, networks", "CREATED NETWORKS a:r04"},
		{100, "LAST expires", "EXPIRES NETWORKS"},
		{80, "PERMISSIONS a:r03 +46 last", "LAST EXPIRES"},
	} {
		var out bytes.Buffer
		p := keyTable(&out, c.width)
		for i := range keys {
			if err := p.print(&keys[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.end(2); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); c.width > 0 && n > c.width {
				t.Errorf("a line has %d characters of %d: %q", n, c.width, line)
			}
		}
		for word := range strings.FieldsSeq(c.has + " " + keys[0].ID.String() + " Überall many 2 key(s)") {
			if !strings.Contains(text, word) {
				t.Errorf("at %d there is no %q in\n%s", c.width, word, text)
			}
		}
		for word := range strings.FieldsSeq(c.lacks) {
			if strings.Contains(text, word) {
				t.Errorf("at %d there is %q in\n%s", c.width, word, text)
			}
		}
	}
}
