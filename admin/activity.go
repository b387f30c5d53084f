package admin

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// ActivityJSON is what a key is used for, as the API and the command line show it.
type ActivityJSON struct {
	FirstUsedAt *time.Time       `json:"first_used_at"`
	LastUsedAt  *time.Time       `json:"last_used_at"`
	Days        []DayJSON        `json:"days"`
	Networks    []NetworkUseJSON `json:"networks"`
	Permissions []AskedJSON      `json:"permissions"`
}

// DayJSON counts the requests of a day. Denied ones are among the requests.
type DayJSON struct {
	Day      store.Day `json:"day"`
	Requests int64     `json:"requests"`
	Denied   int64     `json:"denied"`
}

// NetworkUseJSON counts the uses from a network.
type NetworkUseJSON struct {
	Network  netip.Prefix `json:"network"`
	FirstAt  time.Time    `json:"first_at"`
	LastAt   time.Time    `json:"last_at"`
	Requests int64        `json:"requests"`
}

// AskedJSON is a permission that was asked of the key.
type AskedJSON struct {
	Permission     string    `json:"permission"`
	LastRequiredAt time.Time `json:"last_required_at"`
}

// ShowActivity gives the public form of an activity. No list is null. The times of a key that
// was never used are null.
func ShowActivity(a *store.Activity) ActivityJSON {
	shown := ActivityJSON{
		FirstUsedAt: orNull(a.FirstUsedAt), LastUsedAt: orNull(a.LastUsedAt),
		Days:        make([]DayJSON, 0, len(a.Days)),
		Networks:    make([]NetworkUseJSON, 0, len(a.Networks)),
		Permissions: make([]AskedJSON, 0, len(a.Asked)),
	}
	for _, d := range a.Days {
		shown.Days = append(shown.Days, DayJSON(d))
	}
	for _, n := range a.Networks {
		shown.Networks = append(shown.Networks, NetworkUseJSON(n))
	}
	for _, p := range a.Asked {
		shown.Permissions = append(shown.Permissions, AskedJSON{p.Permission, p.LastAt})
	}
	return shown
}

// activityRoute has the activity of one key.
var activityRoute = &Route{
	Calls: authenticated(map[string]Call{http.MethodGet: getActivity, http.MethodHead: getActivity}),
	Only:  "the activity of a key can be read", Produces: []string{MediaJSON},
}

// getActivity answers with what one key is used for. It is what the store has: instances write
// their counts a little later.
func getActivity(w http.ResponseWriter, r *http.Request, x *Exchange) error {
	ctx, cancel := Bounded(r.Context())
	defer cancel()
	_, activity, err := x.Service.Activity(ctx, x.Actor, x.ID)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, x.keyAnswer(ShowActivity(activity), "/"+x.ID.String()+"/activity"))
	return nil
}
