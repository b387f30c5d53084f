package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "system-keys",
		Short: "Mints, lists and revokes system keys, and shows what was done with them",
		Long: `
Works on the store that the configuration names, or on the one given by --store
(sqlite:///absolute/file.db or postgres://…), beside a running server or without
one.

A PostgreSQL password is never taken from the command line, where every user of
the machine can read it: use PGPASSWORD, PGPASSFILE, or --store '{env.DATABASE_URL}'.

Exit status: 0 done, 1 failed, 2 wrong usage.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return exit(cmd, &usageError{fmt.Errorf("unknown command %q", args[0])})
				}
				return nil
			}
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.SilenceUsage = true
			cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
				return exit(cmd, &usageError{err})
			})
			cmd.AddCommand(createCommand(), listCommand(), revokeCommand(), auditCommand(), statusCommand(), migrateCommand())
			for _, sub := range cmd.Commands() {
				addStoreFlags(sub)
				sub.PreRunE = refuseEmptyFlags
				sub.SilenceUsage = true
			}
		},
	})
}

// usageError is a call that cannot be carried out as it was typed.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// exitUsage is the exit status of wrong usage; of any other error it is 1.
const exitUsage = 2

// exit prints an error and gives it the exit status that belongs to it, in the
// form that Caddy's main function understands. Caddy would log it as JSON where
// standard error is not a terminal, which is of no use to a script's reader.
func exit(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors = true
	// It may repeat an argument, and a key may have been put in the place of an id.
	fmt.Fprintf(cmd.ErrOrStderr(), "Error: %s\n", token.Redact(err.Error()))
	if _, ok := errors.AsType[*usageError](err); !ok {
		return err
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return exitUsage, nil
	})(cmd, nil)
}

// act is what a command does to an open store.
type act func(cmd *cobra.Command, t *target) error

// run makes a cobra function of one that reads the flags and arguments and says
// what to do. The store is opened, made and migrated only for a call that is
// well formed.
func run(parse func(cmd *cobra.Command, args []string) (act, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		do, err := parse(cmd, args)
		if err != nil {
			return exit(cmd, err)
		}
		t, err := openTarget(cmd)
		if err != nil {
			return exit(cmd, err)
		}
		return exit(cmd, errors.Join(do(cmd, t), t.store.Close()))
	}
}

// refuseEmptyFlags refuses a flag that was given without a value. It comes from a
// variable that is not set, and would mean the same as no flag: the widest list,
// or a key without end.
func refuseEmptyFlags(cmd *cobra.Command, _ []string) error {
	var empty []error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "" }) {
			empty = append(empty, usagef("--%s: must not be empty (is a variable not set?)", flag.Name))
		}
	})
	return exit(cmd, errors.Join(empty...))
}

// arguments checks how many there are, as a matter of usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return exit(cmd, &usageError{err})
		}
		return nil
	}
}
