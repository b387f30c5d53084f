package caddymodule

import (
	"fmt"

	"github.com/spf13/cobra"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate [--from DSN --to DSN]",
		Short: "Brings the store's schema up to date, or moves all keys to another store",
		Long: `
Brings the schema up to date. Servers do this themselves when they start. Run it
before, with a role that may change the schema, if theirs may not. Any number may
run at the same time.

With --from and --to it copies everything that has to last from one store to
another, SQLite or PostgreSQL: the mint key, all keys with what is known of them,
and the audit log with its chains, which verify under the same secret as before.
Every key works on the new store as it did on the old one. Sessions of the System
page are not taken along.

It is one transaction: after an error the new store has nothing. The old one is
read as it is at one moment, and not changed; what is revoked there later is live
in the new one. So stop the servers on the old store first, and start them on the
new one when it is done. The new store must have no keys, no audit records and no
servers, since keys that were minted under another mint key would end; its schema
is made if need be. The old one's must be up to date.`,
		Args: arguments(cobra.NoArgs),
	}
	cmd.Flags().String("from", "", "The store to move from: sqlite:///file.db or postgres://…")
	cmd.Flags().String("to", "", "The store to move to, which must be empty")
	upToDate := run(func(*cobra.Command, []string) (act, error) {
		return func(cmd *cobra.Command, _ *target) error {
			// Opening the store for a command migrates it.
			fmt.Fprintln(cmd.ErrOrStderr(), "The schema is up to date.")
			return nil
		}, nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("from") || cmd.Flags().Changed("to") {
			return exit(cmd, moveKeys(cmd))
		}
		return upToDate(cmd, args)
	}
	return cmd
}
