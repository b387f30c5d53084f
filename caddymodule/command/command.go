// Package command is the command line `caddy system-keys …`.
//
// It is a client of the store, and not of the server, which only status asks too. A command
// opens the store itself, with the settings of the server or with --store. So it works beside a
// running server, and when no server runs. Nothing here keeps a rule of its own about keys:
// package admin has them, for the API as for the command line. The operator who can open the
// store needs no key, and is recorded in the audit log by the name of the system user.
//
// Each subcommand has a file. The function …Command declares the flags and the help. All flags
// and arguments are checked before the store is opened, mostly by a function read… that returns
// an [action]. So a call that is not well formed changes nothing, and creates no file.
//
// # Output
//
// Standard output has the result alone, so that it can be piped: keys, tables, JSON. Questions,
// warnings, progress and errors go to standard error. Text that other programs may have written
// goes through [printable] before it reaches a terminal.
//
// # Files
//
// usage.go says what wrong usage is, and sets the exit status. store.go finds and opens the
// store that a subcommand works on. output.go prints keys and audit records, and table.go and
// key_table.go fit them to a terminal.
//
// # Exit status
//
// It is 0 if the command has done what it promises, and 1 if not. It is 2 for wrong usage, and
// nothing was changed then. A scan that has found a key ends with 3. [Strict] maps errors to
// these.
//
// # Interruption
//
// No command here handles signals, but for the broken pipe: see [readCreate]. SIGINT ends the
// process where it is. The store rolls back the transaction that is open, and keeps those that
// were committed. A new key is printed before the command waits for servers. Each command says
// what an interruption leaves, if it leaves something.
//
// # A new subcommand
//
// Write a function that declares it, in a file of its own, and add it to [addSubcommands]. Let
// [onStore] make its RunE, if it needs a store. Return [Usagef] for what the user can correct by
// another call. Tests are scripts under testdata/script, which play the real command.
package command

import (
	"fmt"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// init registers the command with Caddy, which panics if another plugin has the name. The text
// of Long is what `caddy help system-keys` prints, and docs/cli.md explains the rest. The global
// option and the app are called system_keys: names of commands cannot have an underscore.
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

// added are the subcommands of other packages. Only init functions write it, so it has no lock.
var added []caddycmd.Command

// Add adds a subcommand of another package. Call it from an init function: Caddy builds the
// command tree after all of them, and a later call has no effect. The subcommand gets no flags
// for a store. It must call [Strict] itself, if it wants the same exit status and errors.
func Add(c caddycmd.Command) { added = append(added, c) }

// addSubcommands builds the command. Without a subcommand it prints the help; an unknown one is
// wrong usage. Cobra alone would take an unknown subcommand for an argument, print the help, and
// end with status 0. A script with a typing error would believe that its key was revoked.
func addSubcommands(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2 // Cobra's own default, which it sets too late for Args
	// A word that is no subcommand is an argument to Cobra, so the arguments are where it is
	// found.
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
	// RunE is set before Strict, which wraps it.
	Strict(cmd)
	for _, sub := range []*cobra.Command{
		createCommand(), listCommand(), revokeCommand(), rotateCommand(), auditCommand(), statusCommand(), migrateCommand(), importCommand(), adoptCommand(),
		grantsCommand(), scanCommand(), doctorCommand(), backupCommand(),
	} {
		addStoreFlags(sub)
		Strict(sub)
		cmd.AddCommand(sub)
	}
	// The rule for scanners is the same for every store, so patterns gets no flags for one.
	patterns := patternsCommand()
	Strict(patterns)
	cmd.AddCommand(patterns)
	// Each is a command of Caddy's, of which only this much is used.
	for _, c := range added {
		sub := &cobra.Command{Use: c.Name + " " + c.Usage, Short: c.Short, Long: c.Long}
		c.CobraFunc(sub)
		cmd.AddCommand(sub)
	}
}
