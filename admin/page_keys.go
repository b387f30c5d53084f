package admin

import (
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// keysCard is the list of keys, as the state has it.
func (p *page) keysCard(r *http.Request, x *exchange, state ui.State) (ui.Keys, error) {
	card := ui.Keys{
		State:     state,
		MayRead:   x.actor.may(PermissionRead) == nil,
		MayCreate: x.actor.may(PermissionCreate) == nil,
		MayRevoke: x.actor.may(PermissionDelete) == nil,
		MayAudit:  x.actor.may(PermissionAudit) == nil,
	}
	if !card.MayRead {
		return card, nil
	}
	query, back := keyQueryOf(&card.State, p.handler.config.Now())
	ctx, cancel := bounded(r.Context())
	defer cancel()
	found, err := x.service.List(ctx, x.actor, query)
	if err != nil {
		return card, err
	}
	next, prev := found.Next, found.Prev
	if back { // it was read the other way round
		slices.Reverse(found.Keys)
		next, prev = prev, next
	}
	card.Total = found.Total
	for i := range found.Keys {
		card.Keys = append(card.Keys, ui.Key{Key: &found.Keys[i], Own: found.Keys[i].ID == x.actor.Key})
	}
	card.Next, card.Prev = cursorText(next), cursorText(prev)
	return card, nil
}

func cursorText(c *store.Cursor) string {
	if c == nil {
		return ""
	}
	return c.Encode()
}
