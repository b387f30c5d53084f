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

// Strict makes a command end with exit status 2 for wrong usage, and print its errors as plain
// text. Wrong usage is an error of the command's Args or flags, or an error of [Usagef] from
// RunE.
//
// Args and RunE must be set before the call, and PreRunE is replaced. Each error is printed
// once: Cobra's own lines are silenced.
func Strict(cmd *cobra.Command) {
	// Cobra checks in this order: flags, Args, PreRunE, RunE. The first one that fails is the
	// last that runs.
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
	// The list of all flags would push the error off the screen.
	cmd.SilenceUsage = true
}

// refuseEmptyFlags refuses a flag with an empty value, which mostly comes from a variable that is
// not set. Without this check it would mean the same as no flag: the longest list, or a key that
// never expires. It names all such flags at once. Flags that nobody has set are not looked at.
func refuseEmptyFlags(cmd *cobra.Command) error {
	var empty []error
	// Visit leaves out flags that have their default, some of which are empty.
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		values := []string{flag.Value.String()}
		// The text of a list has brackets, so it is never empty. Each element is looked at
		// instead.
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "" }) {
			empty = append(empty, Usagef("--%s: must not be empty (is a variable not set?)", flag.Name))
		}
	})
	return errors.Join(empty...)
}

// The exit status of wrong usage, and of a scan that has found a key. Of any other error it is
// 1. Scripts rely on them, so docs/cli.md promises them. 2 is also what Bash returns for the
// misuse of a builtin.
const (
	exitUsage = 2
	exitFound = 3
)

// report prints an error, and returns it in a form from which Caddy's main function takes the
// exit status. If Caddy printed the error itself, it would log JSON wherever standard error is
// not a terminal, which helps nobody who reads the output of a script.
//
// Wrong usage goes before a key that was found, if an error has both. Everything else ends with
// the status that Caddy has for any error, 1.
func report(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors = true
	// The error may repeat an argument, and somebody may have typed a key in place of an id. It
	// may also repeat what a server has said, and a terminal would obey it.
	lines := strings.Split(token.Redact(err.Error()), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Error: %s\n", strings.Join(lines, "\n"))
	var status int
	if _, ok := errors.AsType[*usageError](err); ok {
		status = exitUsage
	} else if _, ok := errors.AsType[*foundError](err); ok {
		status = exitFound
	} else {
		return err
	}
	// Caddy's error with a status is not exported. Its wrapper makes one if the status is above
	// 1 (cmd/cobra.go of Caddy). It would log an error, so it gets none.
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return status, nil
	})(cmd, nil)
}

// Usagef makes the error of wrong usage. The command then ends with exit status 2. The format
// may have %w. The text is printed after "Error: ", so it begins with the flag and not with a
// capital.
func Usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// usageError marks an error as wrong usage for [report].
type usageError struct{ error }

// Unwrap lets callers find the error of the store or of a parser that is inside.
func (e *usageError) Unwrap() error { return e.error }

// durationFlag reads a flag that holds a duration, in Go's form with d for days as Caddy has it.
// It returns 0 without the flag. A duration below least is wrong usage. Complaint says what the
// flag must be; the value follows it in quotes. With a least of 1 a flag of "0s" is refused, so
// a caller can tell it from no flag.
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

// foundError says that a scan has found keys. It is an error for the sake of the exit status: a
// hook or a CI job must stop.
type foundError struct{ places int }

func (e *foundError) Error() string {
	return fmt.Sprintf("%d place(s) have a key of this store", e.places)
}
