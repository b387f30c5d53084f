package sqlstore

import (
	"net/netip"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// maxAhead is how far a time may be ahead of the store's clock. Machines whose clocks are set by
// NTP differ by less, as a rule.
const maxAhead = time.Second

// Uses are the entries of a [store.Store.RecordUse], as rows for the tables. Several rows may be
// about the same key, and about the same day, network or permission of it.
type Uses struct {
	Keys     []KeyRow
	Days     []DayRow
	Networks []NetworkRow
	Asked    []AskedRow
}

// KeyRow has the first and the last use of a key, which are zero for none.
type KeyRow struct {
	ID        store.ID
	First, At time.Time
}

// DayRow, NetworkRow and AskedRow are parts of the key's activity.
type (
	DayRow struct {
		ID store.ID
		store.DayUse
	}
	NetworkRow struct {
		ID store.ID
		store.NetworkUse
	}
	AskedRow struct {
		ID store.ID
		store.AskedPermission
	}
)

// UsesOf returns the rows. It passes over times that no key can have been used at, and cuts
// those that are ahead of now, so that one wrong clock does not spoil what others write. Days
// before the oldest that is kept are left in: the driver removes them with the others.
func UsesOf(uses []store.Use, now time.Time) *Uses {
	limit := now.Add(maxAhead)
	said := func(at time.Time) bool { return at.UnixMicro() > 0 }
	cut := func(at time.Time) time.Time {
		if at.After(limit) {
			return limit
		}
		return at
	}
	rows := new(Uses)
	for i := range uses {
		use := &uses[i]
		key := KeyRow{ID: use.ID}
		if said(use.At) {
			key.At = cut(use.At)
			if key.First = key.At; said(use.First) && use.First.Before(key.At) {
				key.First = use.First
			}
		}
		rows.Keys = append(rows.Keys, key)
		for _, day := range use.Days {
			day.Day = min(day.Day, store.DayOf(limit))
			rows.Days = append(rows.Days, DayRow{use.ID, day})
		}
		for _, network := range use.Networks {
			if network.Network.IsValid() && said(network.FirstAt) {
				network.FirstAt, network.LastAt = cut(network.FirstAt), cut(network.LastAt)
				rows.Networks = append(rows.Networks, NetworkRow{use.ID, network})
			}
		}
		for _, asked := range use.Asked {
			if said(asked.LastAt) {
				asked.LastAt = cut(asked.LastAt)
				rows.Asked = append(rows.Asked, AskedRow{use.ID, asked})
			}
		}
	}
	return rows
}

// Empty reports whether there is nothing to write. A key without a use counts for nothing.
func (u *Uses) Empty() bool {
	for i := range u.Keys {
		if !u.Keys[i].At.IsZero() {
			return false
		}
	}
	return len(u.Days)+len(u.Networks)+len(u.Asked) == 0
}

// Oldest returns the first of the days for which requests are kept. Today is the last of these
// [store.ActivityDays].
func Oldest(now time.Time) store.Day { return store.DayOf(now) - store.ActivityDays + 1 }

// ScanNetwork reads a network from a row of its prefix as text, two times and a number.
func ScanNetwork(row Row) (use store.NetworkUse, err error) {
	var network string
	if err := row.Scan(&network, (*instant)(&use.FirstAt), (*instant)(&use.LastAt), &use.Requests); err != nil {
		return use, err
	}
	use.Network, err = netip.ParsePrefix(network)
	return use, err
}

// ScanDay reads a day from a row of its number and two counts. The number is in days since the
// Unix epoch.
func ScanDay(row Row) (use store.DayUse, err error) {
	err = row.Scan(&use.Day, &use.Requests, &use.Denied)
	return use, err
}

// ScanAsked reads a permission from a row of its name and a time.
func ScanAsked(row Row) (asked store.AskedPermission, err error) {
	err = row.Scan(&asked.Permission, (*instant)(&asked.LastAt))
	return asked, err
}

// ScanUsed reads the first and the last use of a key from a row of two times. If there is no
// row, the error is [store.ErrNotFound].
func ScanUsed(row Row) (*store.Activity, error) {
	a := new(store.Activity)
	err := row.Scan((*optionalInstant)(&a.FirstUsedAt), (*optionalInstant)(&a.LastUsedAt))
	return a, notFound(err)
}

// Report makes the records of new networks from rows of a key's id, its label, a network, and
// the time of its last use. The rows of a key are behind one another, the newest first. The zero
// value is ready to use.
type Report struct {
	found []store.NetworkReport
}

// Scan reads one row into the report. It has a result only because a driver collects results.
func (r *Report) Scan(row Row) (struct{}, error) {
	var next store.NetworkReport
	var network string
	if err := row.Scan(ID(&next.Key.ID), &next.Key.Label, &network, (*instant)(&next.LastAt)); err != nil {
		return struct{}{}, err
	}
	if last := len(r.found) - 1; last >= 0 && r.found[last].Key.ID == next.Key.ID {
		r.found[last].Count++
		return struct{}{}, nil
	}
	var err error
	next.Newest, err = netip.ParsePrefix(network)
	next.Count = 1
	r.found = append(r.found, next)
	return struct{}{}, err
}

// Keys returns the ids of the keys. That they were reported has to be noted in the transaction
// that has read them.
func (r *Report) Keys() []store.ID {
	ids := make([]store.ID, 0, len(r.found))
	for i := range r.found {
		ids = append(ids, r.found[i].Key.ID)
	}
	return ids
}

// Records returns the records. They are clean, in the order of the rows.
func (r *Report) Records(record func(*store.NetworkReport) store.AuditRecord) []store.AuditRecord {
	records := make([]store.AuditRecord, 0, len(r.found))
	for i := range r.found {
		records = append(records, record(&r.found[i]).Clean())
	}
	return records
}
