package audit

import (
	"encoding/json"
	"net/netip"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// NewNetwork makes the record of a key that was used from networks that are new. The key is
// the actor. The count is how many networks there are, so that one that is not named shows.
func NewNetwork(n *store.NetworkReport) store.AuditRecord {
	details, err := json.Marshal(struct {
		Network netip.Prefix `json:"network"`
		Count   int          `json:"count"`
	}{n.Newest, n.Count})
	if err != nil { // a prefix and a number always encode
		panic(err)
	}
	return store.AuditRecord{
		Event:   store.AuditNewNetwork,
		At:      n.LastAt,
		Actor:   store.AuditActor{Type: store.ActorKey, ID: n.Key.ID.String(), Label: n.Key.Label},
		Key:     n.Key,
		Details: details,
	}
}
