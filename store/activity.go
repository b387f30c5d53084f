package store

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// Bounds of what is kept of a key's activity.
const (
	// ActivityDays is for how many days requests are kept, today included.
	ActivityDays = 90
	// ActivityNetworks is how many networks [Store.Activity] returns, the newest.
	ActivityNetworks = 16
	// MaxActivity is how many networks, and how many permissions, are kept of a key. Of more
	// the newest are kept. More are kept than shown: a network that is forgotten would be
	// reported as new when it comes back.
	MaxActivity = 256
	// NetworkForgotten is after which time without a use a network is new again.
	NetworkForgotten = 30 * 24 * time.Hour
	// NetworkReports is the shortest time between two reports of new networks of a key.
	NetworkReports = time.Hour
)

// Activities is the part of a [Store] that keeps what keys are used for. [Store.RecordUse]
// writes it. The activity of a key is deleted in the transaction that deletes the key. It is
// not moved by [Moving].
type Activities interface {
	// Activity returns what is known of the key's use. The error is [ErrNotFound] if there is
	// no such key.
	Activity(ctx context.Context, id ID) (*Activity, error)

	// Asked returns the permissions that were ever asked of these keys, [MaxActivity] at most
	// for each, in no order. Keys of which none was asked are missing.
	Asked(ctx context.Context, ids []ID) (map[ID][]string, error)

	// ReportNetworks writes an audit record for each key that was used from networks that are
	// new, in the transaction that notes the report. A network is new if the key was not used
	// from it in the [NetworkForgotten] before. The first network of a key is not. No key is
	// reported twice within [NetworkReports], by whichever instance: what comes meanwhile is in
	// the next report. Keys with [MaxActivity] networks are not reported, since too much of
	// them is forgotten. The sealer may be nil.
	ReportNetworks(ctx context.Context, record func(*NetworkReport) AuditRecord, sealer Sealer) error
}

// Use is what is written of the requests of one key; see [Store.RecordUse]. Several entries
// for a key add up.
type Use struct {
	ID ID
	// First and At are the first and the last use in this entry. Both are zero if there is
	// none. If only First is zero, it is At.
	First, At time.Time
	// Days, Networks and Asked are increments of the key's [Activity].
	Days     []DayUse
	Networks []NetworkUse
	Asked    []AskedPermission
}

// Activity is what is known of a key's use.
type Activity struct {
	// FirstUsedAt is the first use that is known, and LastUsedAt the last. Both are zero for
	// a key that was never used.
	FirstUsedAt, LastUsedAt time.Time
	// Days are those of the last [ActivityDays] with requests, the oldest first.
	Days []DayUse
	// Networks are the newest, [ActivityNetworks] at most, the newest first.
	Networks []NetworkUse
	// Asked has each permission that was asked of the key, in the order of their bytes.
	Asked []AskedPermission
}

// DayUse counts the requests of a key on one day.
type DayUse struct {
	Day Day
	// Requests counts all requests with the key that were verified. Denied counts those of
	// them that were refused.
	Requests, Denied int64
}

// NetworkUse counts the uses of a key from one network. Requests that were refused since
// the network is none of the key's are not counted.
type NetworkUse struct {
	Network         netip.Prefix // see [NetworkOf]
	FirstAt, LastAt time.Time
	Requests        int64
}

// AskedPermission says when a permission was asked of a key last. The key may lack it.
type AskedPermission struct {
	Permission string
	LastAt     time.Time
}

// Unused returns the permissions of the key that are not among those that were asked of it. If
// none was ever asked, nothing can be said, and it returns nil: nobody may tell what is asked.
func (k *Key) Unused(asked []string) (unused []string) {
	if len(asked) == 0 {
		return nil
	}
	for _, permission := range k.Permissions {
		if !slices.Contains(asked, permission) {
			unused = append(unused, permission)
		}
	}
	return unused
}

// NetworkReport is about the networks from which a key was used, and which were new.
type NetworkReport struct {
	Key AuditKey
	// Newest is the network of the last use, and LastAt the time of that.
	Newest netip.Prefix
	LastAt time.Time
	// Count is how many there are, Newest included.
	Count int
}

// Day is a day in UTC, in days since the Unix epoch.
type Day int32

// DayOf returns the day of a time.
func DayOf(at time.Time) Day { return Day(at.Unix() / secondsOfDay) }

const secondsOfDay = 24 * 60 * 60

// Start returns the beginning of the day.
func (d Day) Start() time.Time { return time.Unix(int64(d)*secondsOfDay, 0).UTC() }

// String returns the day as 2006-01-02.
func (d Day) String() string { return d.Start().Format(time.DateOnly) }

// MarshalText implements [encoding.TextMarshaler].
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// NetworkOf returns the network that an address counts to: the /24 of an IPv4 address, and
// the /48 of an IPv6 address, which is what a site gets (RFC 6177). It is zero for what is no
// address.
func NetworkOf(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	return networkOf(ip)
}

func networkOf(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	network, _ := ip.Prefix(bits) // fits both
	return network
}
