package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// Strict makes a command end with exit status 2 for wrong usage, and print its errors as
// plain text. Wrong usage is an error of the command's Args or flags, or an error of
// [Usagef] from RunE.
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

// refuseEmptyFlags refuses a flag with an empty value. The value comes from a variable that
// is not set. Without this check it would mean the same as no flag: the longest list, or a
// key that never expires.
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

// The exit status of wrong usage, and of a scan that has found a key. Of any other error it
// is 1.
const (
	exitUsage = 2
	exitFound = 3
)

// report prints an error, and returns it in a form from which Caddy's main function takes
// the exit status. If Caddy printed the error itself, it would log JSON wherever standard
// error is not a terminal, which helps nobody who reads the output of a script.
func report(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors = true
	// The error may repeat an argument, and somebody may have typed a key in place of an id.
	fmt.Fprintf(cmd.ErrOrStderr(), "Error: %s\n", token.Redact(err.Error()))
	var status int
	if _, ok := errors.AsType[*usageError](err); ok {
		status = exitUsage
	} else if _, ok := errors.AsType[*foundError](err); ok {
		status = exitFound
	} else {
		return err
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return status, nil
	})(cmd, nil)
}

// Usagef makes the error of wrong usage. The command then ends with exit status 2.
func Usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// usageError marks an error as wrong usage for [report].
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// durationFlag reads a flag that holds a duration. It returns 0 without the flag.
func durationFlag(cmd *cobra.Command, name string, least time.Duration, complaint string) (time.Duration, error) {
	if !cmd.Flags().Changed(name) {
		return 0, nil
	}
	text, _ := cmd.Flags().GetString(name)
	d, err := caddy.ParseDuration(text)
	if err != nil || d < least {
		return 0, Usagef("--%s: %s: %q", name, complaint, text)
	}
	return d, nil
}

// foundError says that a scan has found keys.
type foundError struct{ places int }

func (e *foundError) Error() string {
	return fmt.Sprintf("%d place(s) have a key of this store", e.places)
}
