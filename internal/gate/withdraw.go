package gate

import (
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// Withdraw takes the identity back from a request that [Gate.Check] has let
// through. It removes every field under the owned prefix, and the credential if
// it was kept. Call it when the next handler has ended, however it has ended: the
// handlers outside of it, and error routes, share the header of the request, and
// can send it to another upstream after the request has left its flight.
func (g *Gate) Withdraw(r *http.Request) {
	g.owner.Remove(r.Header)
	dropKey(r)
}

// dropKey removes a credential of ours. Others' are left alone.
func dropKey(r *http.Request) {
	if slices.ContainsFunc(r.Header["Authorization"], token.Mentions) {
		delete(r.Header, "Authorization")
	}
}
