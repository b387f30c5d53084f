package ui_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// used is what a key is used for that holds five permissions.
func used() *ui.Use {
	today := store.DayOf(now)
	return &ui.Use{
		Key: &store.Key{Label: hostile, Permissions: []string{"a:read", "b:read", "c:read", "d:read", "e:read"}},
		Activity: &store.Activity{
			FirstUsedAt: now.Add(-100 * 24 * time.Hour), LastUsedAt: now.Add(-time.Minute),
			Days: []store.DayUse{
				{Day: today - 90, Requests: 5}, {Day: today - 89, Requests: 1}, {Day: today - 1, Requests: 1000, Denied: 1}, {Day: today, Requests: 500, Denied: 500},
			},
			Networks: []store.NetworkUse{
				{Network: store.NetworkOf("192.0.2.1"), FirstAt: now.Add(-time.Hour), LastAt: now, Requests: 1},
				{Network: store.NetworkOf("2001:db8::1"), FirstAt: now.Add(-8 * 24 * time.Hour), LastAt: now, Requests: 9},
			},
			Asked: []store.AskedPermission{{Permission: "b:read", LastAt: now}, {Permission: "d:read", LastAt: now}, {Permission: "x:y", LastAt: now}},
		},
		Now: now,
	}
}

func TestThePictureOfUse(t *testing.T) {
	t.Parallel()
	type bar struct{ x, y, height, denied int }
	var got []bar
	for _, b := range used().Bars() {
		got = append(got, bar{b.X, b.Y, b.Height, b.DeniedHeight})
	}
	// The day before the first is left out. What there is at all is seen.
	want := []bar{{0, 62, 2, 0}, {88 * 8, 0, 64, 2}, {89 * 8, 32, 32, 32}}
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestTheCardSaysWhatAKeyHoldsForNothing(t *testing.T) {
	t.Parallel()
	drawn := func(language ui.Language, use *ui.Use) string {
		var b bytes.Buffer
		body := ui.Audit{State: ui.State{Activity: store.ID{2}.String()}, MayRead: true, Use: use}
		if err := ui.New("", "/system").Page(&b, ui.Frame{Language: language, Now: now}, body); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	text := drawn("en", used())
	for _, want := range []string{"holds 5 permissions, 2 were asked for", "Never asked for:", ">e:read<", "192.0.2.0/24", "<svg ", "1506 requests in 90 days, 501 refused"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(text, ">new<"); n != 1 || strings.Contains(text, ">b:read<") || strings.Contains(text, "style=") {
		t.Errorf("%d networks are new", n)
	}
	if text := drawn("de", used()); !strings.Contains(text, "hat 5 Berechtigungen, 2 davon wurden verlangt") {
		t.Error("the German is missing")
	}
	// Where nobody asks, nothing is claimed.
	silent := used()
	silent.Asked = nil
	if text := drawn("en", silent); strings.Contains(text, "asked for") || !strings.Contains(text, "holds 5 permissions") {
		t.Error("something is claimed of a key that nobody asked anything")
	}
}

// TestTheCardSaysWhoSendsTheOldKeyStill since its successor is used: networks exactly, and
// requests by the day.
func TestTheCardSaysWhoSendsTheOldKeyStill(t *testing.T) {
	t.Parallel()
	use := used()
	use.LastUsedAt, use.Networks[1].LastAt = now.Add(-time.Hour), now.Add(-3*time.Hour)
	for _, c := range []struct {
		first    time.Time
		sent     bool
		requests int
		from     int
	}{
		{now.Add(-2 * time.Hour), true, 500, 1},
		{now.Add(-13 * time.Hour), true, 1500, 2}, // yesterday
		{now.Add(-time.Minute), false, 500, 1},
	} {
		use.Successor = &store.Activity{FirstUsedAt: c.first}
		if use.StillSent() != c.sent || use.StillRequests() != c.requests || len(use.StillFrom()) != c.from {
			t.Errorf("since %s: %t, %d requests from %v", c.first, use.StillSent(), use.StillRequests(), use.StillFrom())
		}
	}
}
