package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

func createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --label LABEL [--permission RESOURCE:ACTION]... [--system-admin] [--expires-in DURATION] [--json]",
		Short: "Mints a key and prints it, once",
		Long: `
The key goes to standard output, alone, so that it can be piped into a secret
store; everything else goes to standard error. It is not kept and cannot be
shown again.`,
		Example: `  caddy system-keys create --label "Twitch Bot Key" --permission bots:read > bot.key`,
		Args:    arguments(cobra.NoArgs),
		RunE:    run(create),
	}
	cmd.Flags().StringP("label", "l", "", "What the key is called (required)")
	cmd.Flags().StringArrayP("permission", "p", nil, "A permission that the key holds; repeat for more")
	cmd.Flags().Bool("system-admin", false, "Let the key do everything on the admin plane")
	cmd.Flags().String("expires-in", "", "How long the key is good, such as 90d (default: for ever)")
	cmd.Flags().Bool("json", false, "Print the object of the API, with the key in it")
	return cmd
}

func create(cmd *cobra.Command, _ []string, t *target) error {
	want := admin.NewKey{}
	want.Label, _ = cmd.Flags().GetString("label")
	want.Permissions, _ = cmd.Flags().GetStringArray("permission")
	want.IsSystem, _ = cmd.Flags().GetBool("system-admin")
	if want.Label == "" {
		return usagef("--label is required")
	}
	if text, _ := cmd.Flags().GetString("expires-in"); text != "" {
		duration, err := caddy.ParseDuration(text)
		if err != nil || duration <= 0 {
			return usagef("--expires-in: not a duration that lies ahead, such as 90d: %q", text)
		}
		want.ExpiresAt = t.now().Add(duration)
	}
	service, err := t.service(cmd.Context())
	if err != nil {
		return err
	}
	key, plain, err := service.Create(cmd.Context(), admin.CLI(), want)
	if err != nil {
		return invalidUsage(err)
	}
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		shown := admin.ShowKey(key)
		shown.Key = plain
		return json.NewEncoder(cmd.OutOrStdout()).Encode(shown)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Created %q (%s)\n", key.Label, key.ID)
	if len(key.Permissions) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "Permissions: %s\n", strings.Join(key.Permissions, ", "))
	}
	if !key.ExpiresAt.IsZero() {
		fmt.Fprintf(cmd.ErrOrStderr(), "Expires: %s\n", key.ExpiresAt.Format(timeLayout))
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "This key is shown once. Copy it now and store it securely:")
	_, err = fmt.Fprintln(cmd.OutOrStdout(), plain)
	return err
}
