// Package command is the command line `caddy system-keys …`.
//
// Each subcommand has a file. usage.go says what wrong usage is. store.go finds and opens the store that a subcommand works
// on. output.go prints keys and audit records.
package command

import (
	"fmt"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "system-keys",
		Short: "Mints, lists, rotates and revokes system keys, and shows what was done with them",
		Long: `
Works on the store that the configuration names, or on the one given by --store
(sqlite:///absolute/file.db or postgres://…), beside a running server or without
one.

A PostgreSQL password is never taken from the command line, where every user of
the machine can read it: use PGPASSWORD, PGPASSFILE, or --store '{env.DATABASE_URL}'.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 a scan has found a key.`,
		CobraFunc: addSubcommands,
	})
}

// added are the subcommands of other packages.
var added []caddycmd.Command

// Add adds a subcommand of another package. Call it from an init function. The subcommand
// gets no flags for a store.
func Add(c caddycmd.Command) { added = append(added, c) }

// addSubcommands builds the command. Without a subcommand it prints the help; an unknown one
// is wrong usage.
func addSubcommands(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2 // Cobra's own default, which it sets too late for Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			return fmt.Errorf("unknown command %q: did you mean %s?", args[0], strings.Join(similar, " or "))
		}
		return fmt.Errorf("unknown command %q", args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	Strict(cmd)
	for _, sub := range []*cobra.Command{
		createCommand(), listCommand(), revokeCommand(), rotateCommand(), auditCommand(), statusCommand(), migrateCommand(), importCommand(), adoptCommand(),
		grantsCommand(), scanCommand(), doctorCommand(), backupCommand(),
	} {
		addStoreFlags(sub)
		Strict(sub)
		cmd.AddCommand(sub)
	}
	patterns := patternsCommand()
	Strict(patterns)
	cmd.AddCommand(patterns)
	for _, c := range added {
		sub := &cobra.Command{Use: c.Name + " " + c.Usage, Short: c.Short, Long: c.Long}
		c.CobraFunc(sub)
		cmd.AddCommand(sub)
	}
}
