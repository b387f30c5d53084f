package command

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// revokeCommand promises the same as the API: when it ends with status 0, no server accepts the
// keys any more. That is why it may take as long as a lease.
//
// Standard error has the question, the progress and a line for each key that has ended. Standard
// output has objects with --json, and with flags in place of ids the keys. The status is 1 if
// one of the keys could not be revoked, or if its end could not be made sure. The others are
// revoked all the same.
func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID... [--yes] [--json]",
		Short: "Revokes keys, for ever",
		Example: `  caddy system-keys revoke 0199d3f0-0000-7000-8000-000000000001
  caddy system-keys revoke --created-by user:eve --since 30d --dry-run
  caddy system-keys revoke --label-prefix ci- --except 0199d3f0-0000-7000-8000-000000000001`,
		Long: `
Deletes the keys, and returns when no server that runs on the same store accepts
them any more. The successors that a key has minted of itself end with it. A server that does not answer is waited for until its lease has
run out. Asks before it does so on a terminal; elsewhere --yes is needed.

Interrupted while it waits, the keys are deleted, and servers may accept them
until they have noticed. Revoking a key again waits again, and answers as the
first time. An id that the store has never heard of is an error, once no server
accepts it.

In place of ids, flags say which keys: those that match every one of
--created-by, --since, --label-prefix and --permission, but for those of
--except. They are deleted in one transaction, all or none. --dry-run lists
them.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch filtered := filtered(cmd); {
			case filtered && len(args) > 0:
				return errors.New("name the keys by id or by flags, not by both")
			case !filtered && len(args) == 0:
				return errNoKeys
			}
			return nil
		},
		RunE: onStore(readRevoke),
	}
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
	cmd.Flags().Bool("json", false, "Print the objects of the API")
	addFilterFlags(cmd)
	return cmd
}

// readRevoke reads all ids before the first key is deleted. One that is mistyped is wrong usage,
// and no key is revoked: the user must see what they have typed before a part of it is done.
func readRevoke(cmd *cobra.Command, args []string) (action, error) {
	if filtered(cmd) {
		return readRevokeMany(cmd)
	}
	var ids []store.ID
	for _, arg := range args {
		id, err := store.ParseKeyID(arg)
		if err != nil {
			return nil, Usagef("%q: %w", arg, err)
		}
		if !slices.Contains(ids, id) { // named twice, revoked once
			ids = append(ids, id)
		}
	}
	// Before the store is opened: without a terminal nothing may happen at all.
	yes, err := agreed(cmd, false)
	if err != nil {
		return nil, err
	}
	asJSON, _ := cmd.Flags().GetBool("json")
	return func(cmd *cobra.Command, t *target) error {
		if !yes {
			if err := askBeforeRevoking(cmd, t, ids); err != nil {
				return err
			}
		}
		return revokeAll(cmd, t, ids, asJSON)
	}, nil
}

// revokeAll deletes every key before it waits for the first. If one fails, it goes on with the
// others. So keys in the hands of an attacker end together, and servers can apply all deletions
// during the first wait. The error joins those of all ids. Standard output has an object for
// each key with asJSON, and nothing without.
//
// If it is interrupted, the keys that were deleted stay deleted. The servers stop accepting
// them, but nobody has waited for that.
func revokeAll(cmd *cobra.Command, t *target, ids []store.ID, asJSON bool) error {
	service := t.service()
	var errs []error
	fail := func(id store.ID, err error) { errs = append(errs, fmt.Errorf("%s: %w", id, err)) }
	revocations := make([]*admin.Revocation, len(ids))
	for i, id := range ids {
		var err error
		if revocations[i], err = service.Revoke(cmd.Context(), operator(), id); err != nil {
			fail(id, err)
		}
	}
	for i, id := range ids {
		revocation := revocations[i]
		if revocation == nil {
			continue
		}
		progress := &revokeProgress{out: cmd.ErrOrStderr(), name: id.String(), now: t.now}
		revoked, err := revocation.Wait(cmd.Context(), progress.watch)
		if err != nil {
			fail(id, err)
			continue
		}
		if asJSON {
			// The key is revoked, whether or not this can be written.
			if err := newEncoder(cmd.OutOrStdout()).Encode(admin.ShowRevoked(revoked)); err != nil {
				fail(id, err)
			}
		}
		progress.end(fmt.Sprintf("%q (%s)", printable(revoked.Label), id), revoked)
		printSuccessors(cmd.ErrOrStderr(), revoked)
	}
	return errors.Join(errs...)
}

// printSuccessors names the keys that were revoked with a key, and the one that replaces it.
// Whoever revokes a stolen key has to know that the successor of a rotation is still good.
func printSuccessors(w io.Writer, revoked *admin.Revoked) {
	for _, key := range revoked.Keys {
		fmt.Fprintf(w, "Revoked with it, since it has minted it of itself: %q (%s)\n", printable(key.Label), key.ID)
	}
	if by := revoked.ReplacedBy; by.ID != (store.ID{}) {
		fmt.Fprintf(w, "It was replaced by %s (%s), which is still accepted.\n", by.ID, printable(by.Label))
	}
}

// askBeforeRevoking shows the keys. Without a yes it returns an error. The last use is the best
// hint that an id is the wrong one. A key without a row may be revoked all the same: servers
// that have not noticed its end are waited for.
func askBeforeRevoking(cmd *cobra.Command, t *target, ids []store.ID) error {
	for _, id := range ids {
		key, err := t.store.Key(cmd.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s  has no row any more\n", id)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s, last used: %s\n", id, printable(key.Label), minuteOf(key.LastUsedAt))
	}
	return ask(cmd, len(ids))
}
