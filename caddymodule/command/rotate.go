package command

import (
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// rotateCommand replaces a key without a moment in which neither works: the holder gets the new
// key while the old one is still good.
//
// Standard output has the new key alone, as for create. An interruption before it is printed
// leaves a successor that nobody has. To rotate the old key again replaces that one, unless
// --now has ended it.
func rotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate ID [--now] [--grace DURATION] [--deadline DURATION] [--json]",
		Short: "Replaces a key by a new one, and ends it later",
		Long: `
The new key has the same label, permissions and networks. It goes to standard
output, alone, so that it can be piped into a secret store; everything else goes
to standard error. It is not kept and cannot be shown again.

The old key is accepted until --deadline has passed, or until --grace has passed
since the first use of the new key, whichever is first. With --now it ends at
once: the command returns when no server accepts it any more, as for revoke.

If the new key got lost, rotate the old one again: as long as the new key was
never used, it ends, and another one is made.`,
		Example: `  caddy system-keys rotate 0199d3f0-0000-7000-8000-000000000001 > bot.key
  caddy system-keys rotate 0199d3f0-0000-7000-8000-000000000001 --grace 90m --deadline 14d`,
		Args: cobra.ExactArgs(1),
		RunE: onStore(readRotate),
	}
	cmd.Flags().Bool("now", false, "End the old key at once")
	cmd.Flags().String("grace", "", "After which time since the first use of the new key the old one ends (default: 1h)")
	cmd.Flags().String("deadline", "", "After which time the old key ends in any case (default: 7d)")
	cmd.Flags().Bool("json", false, "Print the object of the API, with the key in it")
	return cmd
}

// readRotate reads and checks the flags, before the store is opened. The defaults are those of
// the API, which zero stands for.
func readRotate(cmd *cobra.Command, args []string) (action, error) {
	signal.Ignore(syscall.SIGPIPE) // as in readCreate
	id, err := store.ParseKeyID(args[0])
	if err != nil {
		return nil, Usagef("%q: %w", args[0], err)
	}
	var want admin.RotateOptions
	want.Now, _ = cmd.Flags().GetBool("now")
	if want.Grace, err = durationFlag(cmd, "grace", 1, "not a duration that lies ahead, such as 90m"); err != nil {
		return nil, err
	}
	if want.Deadline, err = durationFlag(cmd, "deadline", 1, "not a duration that lies ahead, such as 7d"); err != nil {
		return nil, err
	}
	if want.Now && (want.Grace != 0 || want.Deadline != 0) {
		return nil, Usagef("--now ends the old key at once: leave --grace and --deadline out")
	}
	asJSON, _ := cmd.Flags().GetBool("json")
	return func(cmd *cobra.Command, t *target) error { return rotate(cmd, t, id, want, asJSON) }, nil
}

// rotate prints the new key before it waits for the end of the old one, so that a wait that is
// interrupted does not lose it. There is a wait with --now, and if an earlier successor was
// never used and is replaced by this one. It waits too if the new key could not be printed: what
// was deleted has ended all the same.
func rotate(cmd *cobra.Command, t *target, id store.ID, want admin.RotateOptions, asJSON bool) error {
	service := t.service()
	var err error
	if service.Minter, err = t.minter(cmd.Context()); err != nil {
		return err
	}
	rotation, err := service.Rotate(cmd.Context(), operator(), id, want)
	if err != nil {
		return err
	}
	printed := printNewKey(cmd, rotation.Key, rotation.Plain, asJSON)
	if printed != nil {
		printed = unprinted(cmd, service, rotation, want.Now, printed)
	} else if !want.Now {
		fmt.Fprintln(cmd.ErrOrStderr(), endOf(rotation.Old))
	}
	// Nothing has ended yet, so there is nothing to wait for.
	if rotation.Ended == nil {
		return printed
	}
	progress := &revokeProgress{out: cmd.ErrOrStderr(), name: "What has ended", now: t.now}
	revoked, err := rotation.Ended.Wait(cmd.Context(), progress.watch)
	if err != nil {
		return errors.Join(printed, err)
	}
	for _, key := range revoked.Keys {
		// With --now both may end: the old key, and a successor of an earlier rotation.
		what := "its successor that was never used"
		if key.ID == id {
			what = "the old key"
		}
		progress.end(fmt.Sprintf("%s (%s)", what, key.ID), revoked)
	}
	return printed
}

// endOf says when a key that was replaced ends.
func endOf(old *store.Key) string {
	text := "The old key ends at " + minuteOf(old.ExpiresAt)
	if old.Grace > 0 {
		text += fmt.Sprintf(", or %s after the first use of this one, whichever is first", old.Grace)
	}
	return text
}

// unprinted revokes a new key that nobody has seen. The old key is not given its life back:
// whoever needs another key rotates it again. It does not wait until servers refuse the new key.
// The caller waits for the end of the old one.
// The error names the next step, since the holder of the old key has an end ahead.
func unprinted(cmd *cobra.Command, service *admin.Service, rotation *admin.Rotation, now bool, err error) error {
	// The holder of the old key learns how much time is left.
	next := fmt.Sprintf("the old key ends at %s all the same: rotate it again for another", minuteOf(rotation.Old.ExpiresAt))
	if now {
		next = "the old key has ended too: create another"
	}
	if _, undo := service.Revoke(cmd.Context(), operator(), rotation.Key.ID); undo != nil {
		return fmt.Errorf("the new key could not be printed (%w), and it is still good: revoke %s (%w); %s", err, rotation.Key.ID, undo, next)
	}
	return fmt.Errorf("the new key could not be printed, so it was revoked again; %s: %w", next, err)
}
