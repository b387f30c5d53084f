package page

import (
	"net/http"
	"strconv"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// stateParameters are the parameters of the page. What the lists show is in the URL, so a
// reload, a bookmark and the back button show the same.
var stateParameters = []string{
	ui.ParamSort, ui.ParamSearch, ui.ParamUnused, ui.ParamExpiry, ui.ParamPage, ui.ParamAfter, ui.ParamBefore,
	ui.ParamActivity, ui.ParamEvent, ui.ParamOlder, ui.ParamLanguage,
}

// pageParameters reads the parameters that the page knows. It ignores others: this is a page and
// no API. Of a parameter that is there twice the first one counts.
func pageParameters(r *http.Request) admin.Parameters {
	p, values := make(admin.Parameters), r.URL.Query()
	for _, name := range stateParameters {
		if values.Has(name) {
			p[name] = values.Get(name)
		}
	}
	return p
}

// stateOf reads what the admin is looking at. It ignores values that make no sense, as an old
// bookmark or a link that was cut may have them. What it returns can be put into links and
// queries. The page is drawn from it, and no other text of the URL gets into the page.
func stateOf(p admin.Parameters) ui.State {
	s := ui.State{
		Sort: p[ui.ParamSort], Search: p[ui.ParamSearch], After: p[ui.ParamAfter], Before: p[ui.ParamBefore],
		Activity: p[ui.ParamActivity], Event: p[ui.ParamEvent], Older: p[ui.ParamOlder], Page: 1,
	}
	if p[ui.ParamUnused] == strconv.Itoa(ui.UnusedDays) {
		s.Unused = ui.UnusedDays
	}
	if expiry := p[ui.ParamExpiry]; expiry == ui.ExpirySoon || expiry == ui.ExpiryOver {
		s.Expiry = expiry
	}
	if n, err := strconv.Atoi(p[ui.ParamPage]); err == nil && n > 0 {
		s.Page = n
	}
	if _, _, ok := pageSort(s.Sort); !ok {
		s.Sort = ui.DefaultSort
	}
	if _, err := (admin.Parameters{"q": s.Search}).Text("q"); err != nil || token.Mentions(s.Search) {
		s.Search = "" // a key that was typed here is not shown to whoever looks on
	}
	for _, text := range []*string{&s.Activity, &s.Older} {
		id, err := store.ParseKeyID(*text)
		if *text = id.String(); err != nil {
			*text = ""
		}
	}
	if !store.AuditEvent(s.Event).Valid() {
		s.Event = ""
	}
	return s
}

// keyQueryOf makes the query of a page of keys, and says whether its rows come backwards. If a
// cursor does not fit, the list starts at its beginning, and the state then says so.
//
// The store only knows what comes after a cursor. So the page before one is what comes after it
// in the other direction, and the last page is the first one in the other direction.
func keyQueryOf(state *ui.State, now time.Time) (query *store.KeyQuery, backwards bool) {
	query = &store.KeyQuery{Limit: ui.PageSize, Search: state.Search, LiveAt: now}
	switch state.Expiry {
	case ui.ExpirySoon:
		query.ExpiringBefore = now.AddDate(0, 0, ui.SoonDays)
	case ui.ExpiryOver:
		query.ExpiringBefore, query.LiveAt = now.Add(time.Microsecond), time.Time{} // at now it is over
	}
	query.Sort, query.Desc, _ = pageSort(state.Sort)
	if state.Unused > 0 {
		query.UnusedSince = now.AddDate(0, 0, -state.Unused)
	}
	var err error
	switch {
	case state.Before == ui.End:
		query.Desc = !query.Desc
		return query, true
	case state.Before != "":
		if query.After, err = store.DecodeCursor(state.Before, query.Sort, !query.Desc); err == nil {
			query.Desc = !query.Desc
			return query, true
		}
	case state.After != "":
		if query.After, err = store.DecodeCursor(state.After, query.Sort, query.Desc); err == nil {
			return query, false
		}
	}
	state.Page, state.After, state.Before = 1, "", ""
	return query, false
}

// pageSort is [admin.Parameters.Sort] with one more column. A list by permissions has no index,
// so the API does not offer it. A person may wait a second or two for it; a program could ask
// for it all the time.
func pageSort(text string) (store.SortField, bool, bool) {
	if desc := text == "-"+string(store.SortPermissions); desc || text == string(store.SortPermissions) {
		return store.SortPermissions, desc, true
	}
	field, desc, err := admin.Parameters{"sort": text}.Sort()
	return field, desc, err == nil
}
