package command

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// scanCommand finds keys that leaked, where somebody already has the files: a repository, a
// folder of logs, a backup. The tag of a key makes it certain. So the exit status may stop a
// build, and --revoke needs no question.
//
// Standard output has a line for each place. Standard error has what could not be read or is not
// searched, and that nothing was found. Status 0 says that no key was found in what was
// searched, and that all of it could be read.
func scanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan [PATH...|-] [--revoke] [--json]",
		Short: "Finds keys of this store in files, folders or standard input",
		Long: `
Searches files, folders and what is in them, or with - standard input. Prints the
place, the id and the label of each key that it finds, and whether it is live,
expired or gone. Never prints a key or a part of it. Nothing that was found is
sent anywhere. Without PATH it searches standard input, if that is a pipe or a
file, else this folder.

A key shows by its tag that this store has minted it, so there is no false alarm.
It is found among any characters, in lines of any length and in binary files, in
UTF-16, and encoded in base64 or by percent signs. Keys of other stores are not
found, nor those that another service has minted and this store has adopted: they
have no tag. Archives and compressed files are not opened. Neither are symbolic
links in folders, nor the objects of git: pipe the history.

With --revoke the live keys are revoked at the end, as by revoke, without asking.
The command needs the right to read the mint key, as a server has it.

Exit status: 0 no key was found, 1 something could not be read or revoked, 2 wrong
usage, 3 a key was found, also if something else could not be read.`,
		Example: `  caddy system-keys scan ~/project /var/log
  git log -p --all | caddy system-keys scan -`,
		Args: cobra.ArbitraryArgs,
		RunE: onStore(readScan),
	}
	cmd.Flags().Bool("revoke", false, "Revoke the live keys that are found")
	cmd.Flags().Bool("json", false, "Print an object for each place, one a line")
	return cmd
}

// readScan reads the flags and paths. A path that is empty is wrong usage: `scan "$DIR"` must
// not search this folder if the variable is not set. Each place is printed when it is found, in
// the form file:line that editors know.
func readScan(cmd *cobra.Command, args []string) (action, error) {
	for _, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return nil, Usagef("a path is empty (is a variable not set?)")
		}
	}
	if len(args) == 0 {
		args = []string{defaultPath(cmd.InOrStdin())}
	}
	revoke, _ := cmd.Flags().GetBool("revoke")
	show := func(f *finding) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s:%d: %s %q, %s\n", f.File, f.Line, f.ID, printable(f.Label), f.State)
		return err
	}
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := newEncoder(cmd.OutOrStdout())
		show = func(f *finding) error { return encoder.Encode(f) }
	}
	return func(cmd *cobra.Command, t *target) error {
		minter, err := t.minter(cmd.Context())
		if err != nil {
			return err
		}
		// A leaked key often stands in many places. The states are bounded, as files may hold
		// any number.
		s := &scan{cmd: cmd, target: t, minter: minter, show: show, states: lru.New[store.ID, keyState](10_000), live: make(map[store.ID]bool)}
		for _, arg := range args {
			s.path(arg)
		}
		return s.end(revoke)
	}, nil
}

// defaultPath is standard input if somebody has connected it, as ripgrep decides it, else the
// working folder. A terminal and the null device are not searched: a service manager or cron
// connects the latter, and an empty search would pass for a clean one.
//
// A search of a folder by mistake prints more than was asked for. A search of nothing would hide
// a key.
func defaultPath(in io.Reader) string {
	if file, ok := in.(*os.File); ok {
		info, err := file.Stat()
		if err == nil && (info.Mode().IsRegular() || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0) {
			return standardInput
		}
	}
	return "."
}
