// Package systemkeys is a Caddy plugin that authenticates the system keys of an
// API in front of it. Building it in is all there is to this package:
//
//	xcaddy build --with github.com/lumio-vision/caddy-system-keys
//
// The modules are in package caddymodule, the domain in package store.
package systemkeys

import (
	// Registers the app, the handlers and the commands.
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule"
)
