package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// createCommand is also how the first system admin of a store comes into being: the API needs a
// key, and the command line needs the store alone.
//
// Standard output has the key and a line end, or one object. Everything else goes to standard
// error, so that `create > bot.key` leaves a file with nothing but the key. The status is 0 only
// if the key was written. An interruption after the key is in the store, and before it is
// written, leaves a key that nobody has: list shows it.
func createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --label LABEL [--permission RESOURCE:ACTION]... [--network PREFIX]... [--system-admin] [--expires-in DURATION] [--json]",
		Short: "Mints a key and prints it, once",
		Long: `
The key goes to standard output, alone, so that it can be piped into a secret
store; everything else goes to standard error. It is not kept and cannot be
shown again.`,
		Example: `  caddy system-keys create --label "Twitch Bot Key" --permission bots:read > bot.key`,
		Args:    cobra.NoArgs,
		RunE:    onStore(readCreate),
	}
	cmd.Flags().StringP("label", "l", "", "What the key is called (required)")
	cmd.Flags().StringArrayP("permission", "p", nil, "A permission that the key holds; repeat for more")
	cmd.Flags().StringArray("network", nil, "A network from which the key may be used, such as 192.0.2.0/24; repeat for more (default: anywhere)")
	cmd.Flags().Bool("system-admin", false, "Let the key do everything on the admin plane")
	cmd.Flags().String("expires-in", "", "How long the key is good, such as 90d (default: for ever)")
	cmd.Flags().Bool("json", false, "Print the object of the API, with the key in it")
	completePermissions(cmd)
	return cmd
}

// readCreate reads and checks the flags, before a store is created. All mistakes in label,
// permissions and networks are reported at once. The service checks them again with the actor.
func readCreate(cmd *cobra.Command, _ []string) (action, error) {
	// If the reader of standard output has gone, the write must fail, so that the key is
	// revoked again. By default the signal would end the process and leave the key.
	signal.Ignore(syscall.SIGPIPE)
	label, _ := cmd.Flags().GetString("label")
	permissions, _ := cmd.Flags().GetStringArray("permission")
	networks, _ := cmd.Flags().GetStringArray("network")
	isSystem, _ := cmd.Flags().GetBool("system-admin")
	asJSON, _ := cmd.Flags().GetBool("json")
	if label == "" {
		return nil, Usagef("--label is required")
	}
	_, labelErr := admin.CleanLabel(label)
	_, permissionsErr := store.CleanPermissions(permissions)
	_, networksErr := store.ParseNetworks(networks)
	if err := errors.Join(labelErr, permissionsErr, networksErr); err != nil {
		return nil, &usageError{err}
	}
	lifetime, err := durationFlag(cmd, "expires-in", 1, "not a duration that lies ahead, such as 90d")
	if err != nil {
		return nil, err
	}
	return func(cmd *cobra.Command, t *target) error {
		// The lifetime begins when the command runs, and not when a service first uses the key.
		want := admin.NewKey{Label: label, Permissions: permissions, IsSystem: isSystem, Networks: networks}
		if lifetime > 0 {
			want.ExpiresAt = t.now().Add(lifetime)
		}
		// The key is in the store before it is printed. In the other order, a key could be
		// copied that never comes into being.
		service := t.service()
		var err error
		if service.Minter, err = t.minter(cmd.Context()); err != nil {
			return err
		}
		key, plain, err := service.Create(cmd.Context(), operator(), want)
		if err != nil {
			return err
		}
		if err := printNewKey(cmd, key, plain, asJSON); err != nil {
			// Nobody waits for servers to refuse the key: none of them has seen it.
			if _, undo := service.Revoke(cmd.Context(), operator(), key.ID); undo != nil {
				return fmt.Errorf("the key could not be printed (%w), and it is still good: revoke %s (%w)", err, key.ID, undo)
			}
			return fmt.Errorf("the key could not be printed, so it was revoked again: %w", err)
		}
		return nil
	}, nil
}

// printNewKey prints the text of a new key to standard output, and its label, permissions,
// networks and expiry to standard error, or all of it to standard output as JSON. After an error
// the caller must revoke the key. Otherwise it would stay live, and perhaps nobody would have it.
func printNewKey(cmd *cobra.Command, key *store.Key, plain string, asJSON bool) error {
	if isNullDevice(cmd.OutOrStdout()) {
		return errors.New("standard output leads nowhere")
	}
	if asJSON {
		// The object says all that the lines below would say, so standard error stays empty.
		shown := admin.ShowKey(key)
		shown.Key = plain
		return newEncoder(cmd.OutOrStdout()).Encode(shown)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Created %q (%s)\n", key.Label, key.ID)
	if len(key.Permissions) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "Permissions: %s\n", strings.Join(key.Permissions, ", "))
	}
	if len(key.Networks) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "Networks: %s\n", strings.Join(key.Networks.Strings(), ", "))
	}
	if !key.ExpiresAt.IsZero() {
		fmt.Fprintf(cmd.ErrOrStderr(), "Expires: %s\n", key.ExpiresAt.Format(timeLayout))
	}
	// On a terminal this line stands above the key. In a pipe it goes another way.
	fmt.Fprintln(cmd.ErrOrStderr(), "This key is shown once. Copy it now and store it securely:")
	_, err := fmt.Fprintln(cmd.OutOrStdout(), plain)
	return err
}

// isNullDevice reports whether nobody can see the output. The Go runtime opens the null device
// in place of a standard output that is closed. Without this check `create >/dev/null`, or a
// service manager without a standard output, would lose the key without an error.
func isNullDevice(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && nullErr == nil && os.SameFile(info, null)
}
