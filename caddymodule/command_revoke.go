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
Deletes the keys. Servers that run on the same store refuse them within a
second. Asks before it does so on a terminal; elsewhere --yes is needed.`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: run(revoke),
	}
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
	return cmd
}

// revoke reads all ids before it deletes the first key, and goes on when one of
// them is gone.
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

func revokeAll(cmd *cobra.Command, t *target, ids []store.ID) error {
	service, err := t.service(cmd.Context())
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		revoked, err := service.Revoke(cmd.Context(), admin.CLI(), id)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			continue
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Revoked %q (%s)\n", printable(revoked.Key.Label), id)
	}
	return errors.Join(errs...)
}

func confirm(cmd *cobra.Command, t *target, ids []store.ID) error {
	for _, id := range ids {
		key, err := t.store.Key(cmd.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s  no such key\n", id)
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
