package ui_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func query(t *testing.T, address string) map[string]string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for name, values := range u.Query() {
		got[name] = values[0]
	}
	return got
}

func same(t *testing.T, what string, address string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, query(t, address)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestLinksKeepWhatIsLookedAt(t *testing.T) {
	t.Parallel()
	keys := ui.Keys{
		State: ui.State{Sort: "label", Search: "bot", Unused: ui.UnusedDays, Expiry: ui.ExpirySoon, Page: 3, After: "c", Activity: "k", Event: "e", Older: "o"},
		Total: 87, Next: "n", Prev: "p",
	}
	same(t, "next", keys.NextURL(), map[string]string{
		"sort": "label", "q": "bot", "unused": "90", "expiry": "soon", "page": "4", "after": "n", "activity": "k", "event": "e", "older": "o",
	})
	same(t, "previous", keys.PrevURL(), map[string]string{
		"sort": "label", "q": "bot", "unused": "90", "expiry": "soon", "page": "2", "before": "p", "activity": "k", "event": "e", "older": "o",
	})
	same(t, "all", keys.AllURL(), map[string]string{"sort": "label", "activity": "k", "event": "e", "older": "o"})
	same(t, "activity", keys.ActivityURL(store.ID{0xAB}), map[string]string{
		"sort": "label", "q": "bot", "unused": "90", "expiry": "soon", "page": "3", "after": "c", "activity": "ab000000-0000-0000-0000-000000000000",
	})
	keys.State.Page = 2
	same(t, "the first page has no cursor", keys.PrevURL(), map[string]string{
		"sort": "label", "q": "bot", "unused": "90", "expiry": "soon", "activity": "k", "event": "e", "older": "o",
	})
}

func TestAColumnSortsTheOtherWayAtTheSecondClick(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, column, want, aria string }{
		{"-created_at", "label", "label", "descending"},
		{"label", "label", "-label", "ascending"},
		{"-label", "label", "label", "descending"},
		{"label", "created_at", "", "ascending"}, // the default: the newest first
		{"-created_at", "created_at", "created_at", "descending"},
		{"-created_at", "last_used_at", "last_used_at", "descending"}, // the idle first
		{"permissions", "permissions", "-permissions", "ascending"},
	} {
		keys := ui.Keys{State: ui.State{Sort: c.before, Page: 4, After: "c"}}
		sorted := ""
		for _, column := range keys.Columns() {
			if column.Name == c.column {
				want := map[string]string{}
				if c.want != "" {
					want["sort"] = c.want
				}
				same(t, c.column+" after "+c.before, column.URL, want)
			}
			if column.Sorted != "" {
				sorted = column.Sorted
			}
		}
		if sorted != c.aria {
			t.Errorf("sorted by %s, aria-sort is %q", c.before, sorted)
		}
	}
}

func TestPagesAreCounted(t *testing.T) {
	t.Parallel()
	for total, want := range map[int]string{1: "Page 1 of 1 (1 key)", 87: "Page 1 of 4 (87 keys)"} {
		keys := ui.Keys{Total: total, Keys: []ui.Key{{Key: &store.Key{Label: "y"}}}, MayRead: true}
		if text := draw(t, ui.English, keys, true); !strings.Contains(text, want) {
			t.Errorf("of %d keys there is no %q", total, want)
		}
	}
	for _, c := range []struct{ total, page, number, pages int }{
		{0, 1, 1, 1}, {1, 1, 1, 1}, {25, 1, 1, 1}, {26, 2, 2, 2}, {87, 1, 1, 4}, {87, 9, 4, 4}, {87, 0, 1, 4},
	} {
		keys := ui.Keys{Total: c.total, State: ui.State{Page: c.page}}
		if keys.Pages() != c.pages || keys.Number() != c.number {
			t.Errorf("page %d of %d keys: %d of %d", c.page, c.total, keys.Number(), keys.Pages())
		}
	}
}
