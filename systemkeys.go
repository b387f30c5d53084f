// Package systemkeys is a Caddy plugin that authenticates the system keys of an
// API in front of it. Building it in is all there is to this package:
//
//	xcaddy build --with github.com/lumio-vision/caddy-system-keys
//
// The modules are in package caddymodule, the command line in package command, the
// domain in package store.
package systemkeys

import (
	// Registers the app and the handlers.
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule"
	// Registers `caddy system-keys …`.
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule/command"
	// Adds `caddy system-keys quickstart`.
	_ "github.com/lumio-vision/caddy-system-keys/cmd/caddy/quickstart"
)
