package caddymodule

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID... [--yes]",
		Short: "Revokes keys, for ever",
		Long: `
Deletes the keys, and returns when no server that runs on the same store accepts
them any more. A server that does not answer is waited for until its lease has
run out. Asks before it does so on a terminal; elsewhere --yes is needed.

Interrupted while it waits, the keys are deleted, and servers may accept them
until they have noticed. Revoking a key again waits again, and answers as the
first time. An id that the store has never heard of is an error, once no server
accepts it.`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: run(revoke),
	}
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
	return cmd
}

// revoke reads all ids before it deletes the first key, and goes on when one of
// them is not known.
func revoke(cmd *cobra.Command, args []string) (act, error) {
	var ids []store.ID
	for _, arg := range args {
		id, err := store.ParseID(arg)
		if err != nil {
			return nil, usagef("%q: %w", arg, err)
		}
		ids = append(ids, id)
	}
	yes, _ := cmd.Flags().GetBool("yes")
	if in, ok := cmd.InOrStdin().(*os.File); !yes && (!ok || !term.IsTerminal(int(in.Fd()))) {
		return nil, usagef("not a terminal, so nobody can be asked: use --yes")
	}
	return func(cmd *cobra.Command, t *target) error {
		if !yes {
			if err := confirm(cmd, t, ids); err != nil {
				return err
			}
		}
		return revokeAll(cmd, t, ids)
	}, nil
}

// revokeAll deletes every key before it waits for the first.
func revokeAll(cmd *cobra.Command, t *target, ids []store.ID) error {
	service, err := t.service(cmd.Context())
	if err != nil {
		return err
	}
	var errs []error
	fail := func(id store.ID, err error) { errs = append(errs, fmt.Errorf("%s: %w", id, err)) }
	revocations := make(map[store.ID]*admin.Revocation)
	for _, id := range ids {
		if revocations[id], err = service.Revoke(cmd.Context(), admin.CLI(), id); err != nil {
			fail(id, err)
		}
	}
	for _, id := range ids {
		revocation := revocations[id]
		if revocation == nil {
			continue
		}
		delete(revocations, id) // named twice, revoked once
		progress := &revokeProgress{out: cmd.ErrOrStderr(), id: id, now: t.now}
		revoked, err := revocation.Wait(cmd.Context(), progress.watch)
		if err != nil {
			fail(id, err)
			continue
		}
		progress.end(revoked)
	}
	return errors.Join(errs...)
}

func confirm(cmd *cobra.Command, t *target, ids []store.ID) error {
	for _, id := range ids {
		key, err := t.store.Key(cmd.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s  has no row any more\n", id)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s, last used: %s\n", id, printable(key.Label), when(key.LastUsedAt))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Revoke %d key(s) for ever? [y/N] ", len(ids))
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was revoked")
	}
	return nil
}
