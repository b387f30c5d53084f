// Package header owns a header prefix on behalf of an upstream: what a client
// sends under it never arrives, and what is injected under it always does.
//
// An upstream that trusts X-Lumio-Key-Id trusts everything between itself and
// the client to have written that field. So a handler calls [Owner.Strip] on
// every request before it looks at any credential, also on those that it lets
// through without one, and [Owner.Inject] on those that it authenticated.
//
// # Ways in, and ways to remove
//
// A client can bring a field of its own as a header, in any spelling that some
// server behind the proxy takes for the real one, and as a trailer, announced
// or not. It can also have a field removed that was injected: Caddy's
// reverse_proxy, like any proxy that follows RFC 9110 section 7.6.1, deletes
// the fields that the client names in Connection, after all handlers have run.
// Strip closes all of these. Proxy-Connection needs no care: Caddy removes it
// and, like RFC 9110 appendix C.2.2, gives its tokens no meaning.
//
// # Upgrades
//
// Once a connection has changed its protocol nobody looks at its requests any
// more. An upstream that accepts Upgrade: h2c would take HTTP/2 requests with
// any identity from the client. [CheckUpgrade] lets WebSocket through. It takes
// every other wish for an upgrade out of the request, and refuses CONNECT for
// anything else.
package header
