// Command stock is Caddy as it is published: its own modules, in the version of our
// go.mod, and nothing of the plugin. The benchmarks compare with it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
