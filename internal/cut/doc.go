// Package cut ends requests that are in flight, from outside of their handlers.
//
// To cancel a request's context is not enough: a handler may be blocked in a
// read from a client that does not send, or in a write to one that does not
// read; it may have taken over the connection; and what it writes after the cut
// must not reach the client, or a part would pass for the whole. An [Exchange]
// wraps what a handler is given, and knows of each of these. It uses net/http
// alone, has no goroutine and no lock that is held while anything is written.
package cut
