package store

// KeyPage is one page of a list.
type KeyPage struct {
	Keys []Key
	// Total counts every key that the query's filters keep, on all pages.
	Total int
	// Next is the place behind the last key, or nil on the last page.
	Next *Cursor
	// Prev is the place of the first key in the same list turned round, or nil on
	// an empty page: a query with the other direction that goes on there gives the
	// page before, in reverse. On the first page that is an empty one.
	Prev *Cursor
}

// Cut makes the page of the rows that a driver has read into Keys, one more than
// the query's limit where there are more. For [SortPermissions] ranks are what
// each row was ordered by; else they are not looked at.
func (p *KeyPage) Cut(query *KeyQuery, ranks []string) {
	if len(p.Keys) == 0 {
		return
	}
	place := func(i int, desc bool) *Cursor {
		cursor := CursorAt(&p.Keys[i], query.Sort, desc)
		if query.Sort == SortPermissions {
			cursor.Permissions = ranks[i]
		}
		return cursor
	}
	p.Prev = place(0, !query.Desc)
	if len(p.Keys) > query.Limit {
		p.Next = place(query.Limit-1, query.Desc)
		p.Keys = p.Keys[:query.Limit]
	}
}
