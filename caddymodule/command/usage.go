package command

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

// Strict makes a command refuse wrong usage with the exit status 2, and print its
// errors as a script's reader wants them. Wrong usage is what the command's Args and
// the flags refuse, and what RunE returns by [Usagef].
func Strict(cmd *cobra.Command) {
	checkArguments, execute := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := checkArguments(cmd, args); err != nil {
			return report(cmd, &usageError{err})
		}
		return nil
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return report(cmd, refuseEmptyFlags(cmd)) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return report(cmd, execute(cmd, args)) }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return report(cmd, &usageError{err}) })
	cmd.SilenceUsage = true
}

// refuseEmptyFlags refuses a flag that was given without a value. It comes from a
// variable that is not set, and would mean the same as no flag: the widest list,
// or a key without end.
func refuseEmptyFlags(cmd *cobra.Command) error {
	var empty []error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "" }) {
			empty = append(empty, Usagef("--%s: must not be empty (is a variable not set?)", flag.Name))
		}
	})
	return errors.Join(empty...)
}

// exitUsage is the exit status of wrong usage; of any other error it is 1.
const exitUsage = 2

// report prints an error and gives it the exit status that belongs to it, in the
// form that Caddy's main function understands. Caddy would log it as JSON where
// standard error is not a terminal, which is of no use to a script's reader.
func report(cmd *cobra.Command, err error) error {
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

// Usagef makes the error of a call that cannot be carried out as it was typed.
func Usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// usageError is a call that cannot be carried out as it was typed.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }
