package ui

import (
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Use is what the key is used for whose records the audit card shows.
type Use struct {
	Key *store.Key
	*store.Activity
	Now time.Time
	// Successor is the use of the key that has replaced this one, or nil.
	Successor *store.Activity
}

// StillSince is the day on which the successor was first used. Requests are counted by the
// day, so those of that day are counted from its beginning.
func (u *Use) StillSince() store.Day { return store.DayOf(u.Successor.FirstUsedAt) }

// StillSent reports whether the key was used after the first use of its successor.
func (u *Use) StillSent() bool { return u.LastUsedAt.After(u.Successor.FirstUsedAt) }

// StillRequests counts the requests since [Use.StillSince].
func (u *Use) StillRequests() int {
	return u.sum(func(d store.DayUse) int64 {
		if d.Day < u.StillSince() {
			return 0
		}
		return d.Requests
	})
}

// StillFrom are the networks from which the key was used after the first use of its
// successor.
func (u *Use) StillFrom() []From {
	return slices.DeleteFunc(u.From(), func(f From) bool { return !f.LastAt.After(u.Successor.FirstUsedAt) })
}

// The picture has a bar for each day. A bar is barWidth wide, with a gap of one.
const (
	barWidth  = 7
	barHeight = 64
)

// Bar is one day of the picture. The refused requests are at the foot of the bar.
type Bar struct {
	store.DayUse
	X, Y, Height           int
	DeniedY, DeniedHeight  int
	RequestsInt, DeniedInt int
}

// Bars are the days of the picture, the oldest first. Days without requests have none.
func (u *Use) Bars() []Bar {
	first, most := store.DayOf(u.Now)-store.ActivityDays+1, int64(u.Most())
	bars := make([]Bar, 0, len(u.Days))
	height := func(n int64) int { // of what there is, something is seen
		if n <= 0 {
			return 0
		}
		return int(max(2, n*barHeight/max(1, most)))
	}
	for _, day := range u.Days {
		if day.Day < first || day.Requests == 0 {
			continue
		}
		b := Bar{DayUse: day, X: int(day.Day-first) * (barWidth + 1), RequestsInt: int(day.Requests), DeniedInt: int(day.Denied)}
		b.Height, b.DeniedHeight = height(day.Requests), min(height(day.Denied), height(day.Requests))
		b.Y, b.DeniedY = barHeight-b.Height, barHeight-b.DeniedHeight
		bars = append(bars, b)
	}
	return bars
}

// Width is the width of the picture.
func (*Use) Width() int { return store.ActivityDays*(barWidth+1) - 1 }

// BarWidth is the width of a bar.
func (*Use) BarWidth() int { return barWidth }

// Height is the height of the picture.
func (*Use) Height() int { return barHeight }

// Most is the most requests of a day.
func (u *Use) Most() int {
	most := int64(0)
	for _, day := range u.Days {
		most = max(most, day.Requests)
	}
	return int(most)
}

// Requests is the sum of all days.
func (u *Use) Requests() int { return u.sum(func(d store.DayUse) int64 { return d.Requests }) }

// Denied is how many of the requests were refused.
func (u *Use) Denied() int { return u.sum(func(d store.DayUse) int64 { return d.Denied }) }

func (u *Use) sum(of func(store.DayUse) int64) int {
	sum := int64(0)
	for _, day := range u.Days {
		sum += of(day)
	}
	return int(sum)
}

// Held is how many permissions the key holds.
func (u *Use) Held() int { return len(u.Key.Permissions) }

// Unused are the permissions of the key that nobody has asked for. If none was ever asked of
// the key, there are none to name.
func (u *Use) Unused() []string {
	asked := make([]string, 0, len(u.Asked))
	for _, a := range u.Asked {
		asked = append(asked, a.Permission)
	}
	return u.Key.Unused(asked)
}

// AskedFor is how many of the key's permissions were asked for.
func (u *Use) AskedFor() int { return u.Held() - len(u.Unused()) }

// newFor is how long a network is marked as new.
const newFor = 7 * 24 * time.Hour

// From is a network of the key.
type From struct {
	store.NetworkUse
	New      bool
	Requests int
}

// From are the networks, the newest first.
func (u *Use) From() []From {
	all := make([]From, 0, len(u.Networks))
	for _, n := range u.Networks {
		all = append(all, From{n, u.Now.Sub(n.FirstAt) < newFor, int(n.Requests)})
	}
	return all
}
