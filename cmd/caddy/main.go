// Command caddy is Caddy with its standard modules and caddy-system-keys. It also has the
// quickstart as a command of its own.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/lumio-vision/caddy-system-keys"
	"github.com/lumio-vision/caddy-system-keys/cmd/caddy/quickstart"
)

func main() {
	caddycmd.RegisterCommand(quickstart.Command)
	caddycmd.Main()
}
