package caddymodule

import (
	"fmt"

	"github.com/spf13/cobra"
)

func migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Brings the store's schema up to date",
		Long: `
Servers do this themselves when they start. Run it before, with a role that may
change the schema, if theirs may not. Any number may run at the same time.`,
		Args: arguments(cobra.NoArgs),
		RunE: run(func(*cobra.Command, []string) (act, error) {
			return func(cmd *cobra.Command, _ *target) error {
				// Opening the store for a command migrates it.
				fmt.Fprintln(cmd.ErrOrStderr(), "The schema is up to date.")
				return nil
			}, nil
		}),
	}
}
