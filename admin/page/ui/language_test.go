package ui_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func words(t *testing.T, language ui.Language) map[string]string {
	t.Helper()
	b, err := os.ReadFile("translations/" + string(language) + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var w map[string]string
	if err := json.Unmarshal(b, &w); err != nil {
		t.Fatal(err)
	}
	return w
}

var verb = regexp.MustCompile(`%[a-z]`)

func TestEveryLanguageSaysTheSame(t *testing.T) {
	t.Parallel()
	english := words(t, ui.English)
	for _, language := range ui.Languages {
		other := words(t, language)
		if diff := cmp.Diff(slices.Sorted(maps.Keys(english)), slices.Sorted(maps.Keys(other))); diff != "" {
			t.Errorf("%s (-en +%s):\n%s", language, language, diff)
		}
		for key, text := range other {
			if text == "" || strings.TrimSpace(text) != text {
				t.Errorf("%s: %s is %q", language, key, text)
			}
			if diff := cmp.Diff(verb.FindAllString(english[key], -1), verb.FindAllString(text, -1)); diff != "" {
				t.Errorf("%s: %s has other arguments:\n%s", language, key, diff)
			}
		}
	}
}

// TestNoTextIsLeftOver looks for texts that nothing says.
func TestNoTextIsLeftOver(t *testing.T) {
	t.Parallel()
	var templates strings.Builder
	entries, err := os.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile("templates/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		templates.Write(b)
	}
	used := templates.String()
	// These are put together; that each of them is drawn is tested elsewhere.
	composed := []string{"time.", "title.", "event.", "problem.", "create.error.", "rotate.error.", "wait.", "signin.notice.", "column."}
	for key := range words(t, ui.English) {
		if !strings.Contains(used, `"`+strings.TrimSuffix(key, ".one")+`"`) && !slices.ContainsFunc(composed, func(p string) bool { return strings.HasPrefix(key, p) }) {
			t.Errorf("nothing says %q", key)
		}
	}
}

func TestTheLanguageIsTheOneThatWasChosenOrFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		chosen, accept string
		want           ui.Language
	}{
		{"", "", ui.English},
		{"", "de", ui.German},
		{"", "de-AT,en;q=0.5", ui.German},
		{"", "en-US,de;q=0.5", ui.English},
		{"", "fr,de;q=0.3", ui.German},
		{"", "fr", ui.English},
		{"", ";;;", ui.English},
		{"de", "en", ui.German},
		{"en", "de", ui.English},
		{"xx", "de", ui.German},
	} {
		if got := ui.Choose(c.chosen, c.accept); got != c.want {
			t.Errorf("chosen %q, accepted %q: %s, want %s", c.chosen, c.accept, got, c.want)
		}
	}
}

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
		{-time.Minute, "in 1 minute", "in 1 Minute"},
		{-time.Hour, "in 1 hour", "in 1 Stunde"},
		{-24 * time.Hour, "in 24 hours", "in 24 Stunden"},
		{-47 * time.Hour, "in 47 hours", "in 47 Stunden"},
		{-48 * time.Hour, "in 2 days", "in 2 Tagen"},
		{-90 * 24 * time.Hour, "in 90 days", "in 90 Tagen"},
		{time.Second - 90*24*time.Hour, "in 90 days", "in 90 Tagen"},
		{-800 * 24 * time.Hour, "in 800 days", "in 800 Tagen"},
	} {
		at := now.Add(-c.ago)
		key := ui.Key{Key: &store.Key{Label: "y", CreatedAt: at, LastUsedAt: at}}
		body := ui.Keys{Keys: []ui.Key{key}, Total: 1, MayRead: true}
		for language, want := range map[ui.Language]string{ui.English: c.english, ui.German: c.german} {
			want = `<time datetime="` + at.Format(time.RFC3339) + `" title="` + at.Format("2006-01-02 15:04:05") + ` UTC">` + want + `</time>`
			if text := draw(t, language, body, true); strings.Count(text, want) != 2 {
				t.Errorf("%v ago in %s: %q is not there in\n%s", c.ago, language, want, text)
			}
		}
	}
}

func TestWhatExpiresSoonAndWhatIsOverHasABadge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in              time.Duration
		class           string
		english, german string
	}{
		{8 * 24 * time.Hour, "along expiry", "expires", "läuft ab"},
		{7 * 24 * time.Hour, "along expiry soon", "expires", "läuft ab"},
		{time.Second, "along expiry soon", "expires", "läuft ab"},
		{0, "along expiry over", "expired", "abgelaufen"},
		{-90 * 24 * time.Hour, "along expiry over", "expired", "abgelaufen"},
	} {
		body := ui.Keys{Keys: []ui.Key{{Key: &store.Key{Label: "y", ExpiresAt: now.Add(c.in)}}}, Total: 1, MayRead: true}
		for language, want := range map[ui.Language]string{ui.English: c.english, ui.German: c.german} {
			want = `<span class="` + c.class + `">` + want + ` <time`
			if text := draw(t, language, body, true); !strings.Contains(text, want) {
				t.Errorf("in %v: %q is not there in\n%s", c.in, want, text)
			}
		}
	}
}
