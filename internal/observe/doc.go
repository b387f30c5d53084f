// Package observe shows the work that a request may have to wait for: calls on
// the store and on the shared cache, and Argon2id. Each is a span, if the request
// is traced, and its time goes to a [Meter].
//
// Spans are made by whatever made the request's own (Caddy's `tracing`), so that
// there is nothing to configure. Neither spans nor what a meter is told have
// anything in them that names a key: which operation it was, how it ended, and
// how long it took.
package observe
