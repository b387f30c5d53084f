package command

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

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
			if n := uniseg.StringWidth(strings.TrimRight(line, "\n")); c.width > 0 && n > c.width {
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

// TestTextIsCutBetweenCharacters as a reader sees them: an emoji of seven code points stays
// whole, and takes two columns.
func TestTextIsCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	const family, flag = "👨\u200d👩\u200d👧\u200d👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"Twitch Bot", 10, "Twitch Bot"},
		{"Twitch Bot Key", 10, "Twitch Bo…"},
		{family + family, 4, family + family},
		{family + family, 3, family + "…"},
		{family + flag + "x", 4, family + "…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
		{"漢字漢字", 5, "漢字…"},
	} {
		if got := cutTo(printable(c.text), c.width); got != c.want {
			t.Errorf("%q cut to %d columns is %q, want %q", c.text, c.width, got, c.want)
		}
	}
	if got := printable("a\x1b[31mb\u202ec\u00a0d"); got != "a�[31mb�c\u00a0d" {
		t.Errorf("printable gave %q", got)
	}
}

// TestALongLabelIsCut where the table would not fit: labels may have 100 characters.
func TestALongLabelIsCut(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := keyTable(&out, 80)
	for _, label := range []string{strings.Repeat("漢", 100), strings.Repeat("👨\u200d👩\u200d👧\u200d👦", 14), "short"} {
		err := p.print(&store.Key{Label: label, Permissions: []string{"a-rather-long-resource:read", "a-rather-long-resource:write"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(3); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := uniseg.StringWidth(strings.TrimRight(line, "\n")); n > 80 && !strings.Contains(line, "left out") {
			t.Errorf("a line takes %d columns: %q", n, line)
		}
	}
	if text := out.String(); !strings.Contains(text, "漢…") || strings.Contains(text, "\u200d…") {
		t.Errorf("the table is\n%s", text)
	}
}
