package page

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const someID = "0199d3f0-0000-7000-8000-000000000001"

func TestWhatMakesNoSenseInTheURLIsAsIfItWereNotThere(t *testing.T) {
	t.Parallel()
	normal := ui.State{Sort: ui.DefaultSort, Page: 1}
	for name, c := range map[string]struct {
		in   admin.Parameters
		want func(s *ui.State)
	}{
		"nothing":                   {admin.Parameters{}, func(*ui.State) {}},
		"a column":                  {admin.Parameters{"sort": "-permissions"}, func(s *ui.State) { s.Sort = "-permissions" }},
		"no column":                 {admin.Parameters{"sort": "key_hash"}, func(*ui.State) {}},
		"a search":                  {admin.Parameters{"q": "bot"}, func(s *ui.State) { s.Search = "bot" }},
		"a search that is too long": {admin.Parameters{"q": strings.Repeat("x", 401)}, func(*ui.State) {}},
		"a search with NUL":         {admin.Parameters{"q": "a\x00"}, func(*ui.State) {}},
		"a key in the search":       {admin.Parameters{"q": " LM_sys_0a"}, func(*ui.State) {}},
		"unused for so long":        {admin.Parameters{"unused": "90"}, func(s *ui.State) { s.Unused = ui.UnusedDays }},
		"unused for another time":   {admin.Parameters{"unused": "1"}, func(*ui.State) {}},
		"keys that expire soon":     {admin.Parameters{"expiry": "soon"}, func(s *ui.State) { s.Expiry = ui.ExpirySoon }},
		"keys that have expired":    {admin.Parameters{"expiry": "over"}, func(s *ui.State) { s.Expiry = ui.ExpiryOver }},
		"no such expiry":            {admin.Parameters{"expiry": "never"}, func(*ui.State) {}},
		"a page":                    {admin.Parameters{"page": "3"}, func(s *ui.State) { s.Page = 3 }},
		"no page":                   {admin.Parameters{"page": "-3"}, func(*ui.State) {}},
		"a key's activity":          {admin.Parameters{"activity": someID, "older": someID}, func(s *ui.State) { s.Activity, s.Older = someID, someID }},
		"nobody's":                  {admin.Parameters{"activity": "x", "older": "y"}, func(*ui.State) {}},
		"an event":                  {admin.Parameters{"event": "api_key.used"}, func(s *ui.State) { s.Event = "api_key.used" }},
		"no event":                  {admin.Parameters{"event": "api_key.found"}, func(*ui.State) {}},
	} {
		want := normal
		c.want(&want)
		if diff := cmp.Diff(want, stateOf(c.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestACursorOfAnotherListIsDropped(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	key := &store.Key{Label: "a", CreatedAt: now}
	after := store.CursorAt(key, store.SortLabel, false).Encode()
	before := store.CursorAt(key, store.SortLabel, true).Encode()
	for name, c := range map[string]struct {
		state      ui.State
		desc, back bool
		found      bool
	}{
		"behind":                   {ui.State{Sort: "label", Page: 2, After: after}, false, false, true},
		"before, read backwards":   {ui.State{Sort: "label", Page: 2, Before: before}, true, true, true},
		"behind, in another order": {ui.State{Sort: "-label", Page: 2, After: after}, true, false, false},
		"before, in another order": {ui.State{Sort: "-label", Page: 2, Before: before}, true, false, false},
		"of another column":        {ui.State{Sort: "created_at", Page: 2, After: after}, false, false, false},
		"no cursor":                {ui.State{Sort: "label", Page: 2, After: "x"}, false, false, false},
	} {
		query, back := keyQueryOf(&c.state, now)
		if back != c.back || query.Desc != c.desc || (query.After != nil) != c.found {
			t.Errorf("%s: backwards %v, %+v", name, back, query)
		}
		if wantPage := map[bool]int{true: 2, false: 1}[c.found]; c.state.Page != wantPage {
			t.Errorf("%s: is page %d", name, c.state.Page)
		}
	}
}

func TestExpiredKeysAreApart(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for expiry, want := range map[string]store.KeyQuery{
		"":            {LiveAt: now},
		ui.ExpirySoon: {LiveAt: now, ExpiringBefore: now.Add(7 * 24 * time.Hour)},
		ui.ExpiryOver: {ExpiringBefore: now.Add(time.Microsecond)},
	} {
		query, _ := keyQueryOf(&ui.State{Sort: "label", Expiry: expiry}, now)
		if !query.LiveAt.Equal(want.LiveAt) || !query.ExpiringBefore.Equal(want.ExpiringBefore) {
			t.Errorf("%q: %+v", expiry, query)
		}
	}
}
