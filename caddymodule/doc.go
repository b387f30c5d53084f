// Package caddymodule is where caddy-system-keys meets Caddy: the app that
// holds the store and the engine, the handlers, their Caddyfile syntax, and the
// commands. It maps and wires; what is decided is decided in the packages that
// it imports, none of which knows Caddy.
package caddymodule
