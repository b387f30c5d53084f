// Command caddy is Caddy with its standard modules and caddy-system-keys.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/lumio-vision/caddy-system-keys"
)

func main() { caddycmd.Main() }
