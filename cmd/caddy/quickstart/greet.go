package quickstart

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/term"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// demoPermission is the permission of the bot key. No route of the demo requires it: it is there
// to arrive at the upstream.
const demoPermission = "bots:read"

// greet mints an admin key and a bot key, and prints what to try with them. The calls are whole
// commands with the keys in them, ready to be pasted.
func (d *demo) greet(ctx context.Context, out io.Writer) error {
	actor := admin.Command("quickstart")
	_, adminKey, err := d.service.Create(ctx, actor, admin.NewKey{Label: "Quickstart admin", IsSystem: true})
	if err != nil {
		return err
	}
	bot, botKey, err := d.service.Create(ctx, actor, admin.NewKey{
		Label: "Quickstart bot", Permissions: []string{demoPermission},
	})
	if err != nil {
		return err
	}
	bold := emphasis(out)
	kept := "removed at the end"
	if d.keep {
		kept = "kept"
	}
	// The demo runs without the endpoint, which is worth a word and no error.
	metrics := "off: " + caddy.DefaultAdminListen + " is taken"
	if d.metrics != "" {
		metrics = "http://" + d.metrics + "/metrics"
	}
	// The same line is shown twice: before and after the revocation.
	call := fmt.Sprintf(`curl -i -H "Authorization: Bearer %s" %s/hello`, botKey, d.url)
	_, err = fmt.Fprintf(out, `
  %s

  System page  %s%s
  Proxy        %s
  Admin API    %s/v1/admin/system-keys
  Metrics      %s
  Store        %s (%s)

  Admin key    %s
  Bot key      %s

  %s
  %s

  %s
  curl -X DELETE -H "Authorization: Bearer %s" %s/v1/admin/system-keys/%s

  %s
  %s

  The keys are shown this once. Ctrl-C stops the demo.
`,
		bold("caddy-system-keys is running"),
		d.url, admin.DefaultPage, d.url, d.url, metrics, d.file, kept,
		adminKey, botKey,
		bold("1. The bot calls the API; the upstream learns who it is"), call,
		bold("2. The admin revokes the bot's key"), adminKey, d.url, bot.ID,
		bold("3. The same call gets 401"), call,
	)
	return err
}

// emphasis returns a function that makes text bold on a terminal. Elsewhere the function
// changes nothing (https://no-color.org).
//
// In a file or a pipe the escape sequences would be noise.
func emphasis(out io.Writer) func(string) string {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("NO_COLOR") != "" {
		return func(s string) string { return s }
	}
	return func(s string) string { return "\x1b[1m" + s + "\x1b[0m" }
}
