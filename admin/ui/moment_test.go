package ui_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
)

func TestTimesAreRelativeWithTheExactOneBehind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ago             time.Duration
		english, german string
	}{
		{0, "just now", "gerade eben"},
		{9 * time.Second, "just now", "gerade eben"},
		{-3 * time.Second, "just now", "gerade eben"}, // another clock
		{10 * time.Second, "10 seconds ago", "vor 10 Sekunden"},
		{time.Minute, "1 minute ago", "vor 1 Minute"},
		{2 * time.Hour, "2 hours ago", "vor 2 Stunden"},
		{24 * time.Hour, "1 day ago", "vor 1 Tag"},
		{60 * 24 * time.Hour, "2 months ago", "vor 2 Monaten"},
		{800 * 24 * time.Hour, "2 years ago", "vor 2 Jahren"},
		{-time.Hour, "in 1 hour", "in 1 Stunde"},
		{-40 * 24 * time.Hour, "in 1 month", "in 1 Monat"},
	} {
		at := now.Add(-c.ago)
		key := ui.Key{ID: "x", Label: "y", CreatedAt: at, LastUsedAt: at}
		body := ui.Keys{Keys: []ui.Key{key}, Total: 1, MayRead: true}
		for language, want := range map[ui.Language]string{ui.English: c.english, ui.German: c.german} {
			want = `<time datetime="` + at.Format(time.RFC3339) + `" title="` + at.Format("2006-01-02 15:04:05") + ` UTC">` + want + `</time>`
			if text := draw(t, language, body, true); strings.Count(text, want) != 2 {
				t.Errorf("%v ago in %s: %q is not there in\n%s", c.ago, language, want, text)
			}
		}
	}
}
