package command

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
)

// adoptCommand is for an operator who still has the keys of another service in clear, such as in
// a secret store. Without it a server finds the row of such a key at its first use, by hashing
// it against every row that is left.
//
// The keys come from standard input. On the command line, other users of the machine could read
// them.
//
// Standard output has a line for each line of the input that is not empty. Standard error has
// the estimate, the question and the progress. The status is 1 if one of the lines was adopted
// neither now nor before. An interruption loses nothing: entries are made one by one, and the
// next run finds them.
func adoptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adopt [--yes] [--json] < KEYS",
		Short: "Finds the rows of another service's keys by the keys themselves",
		Long: `
Reads keys of another service from standard input, one a line, and enters each
under a digest with the configured secret. From then on every server finds its row
without a search. Nothing else of the keys is kept, and none is printed: a line is
named by its number.

A line is a key, or the id of its row, a tab and the key. Without an id the key is
tried against every row that no key was found for yet, which takes long. So the
command prints an estimate first, and asks; with --yes it does not ask. It takes no
more memory for hashes than hash_memory.

The secret is in the configuration, so --store does not do. Fails if a line was not
adopted, unless it was before.`,
		Example: `  caddy system-keys adopt < keys.txt`,
		Args:    cobra.NoArgs,
		RunE:    onStore(readAdopt),
	}
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
	cmd.Flags().Bool("json", false, "Print an object for each line")
	return cmd
}

// readAdopt reads the flags and standard input. All of the input is read before the store is
// opened, so that a long pipe holds no connection.
func readAdopt(cmd *cobra.Command, _ []string) (action, error) {
	if cmd.Flags().Changed("store") {
		return nil, Usagef("--store: the secret is in the configuration, so name that with --config")
	}
	yes, _ := cmd.Flags().GetBool("yes")
	lines, err := readKeyLines(cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	// Lines with ids are adopted before the question, so this cannot wait until then.
	if !yes && slices.ContainsFunc(lines, keyLine.isSearched) {
		in, err := os.Open(terminal)
		if err != nil {
			return nil, Usagef("there is no terminal, so nobody can be asked: use --yes, or give every line its id")
		}
		_ = in.Close() // it was only opened
	}
	p := adoptedTable(cmd.OutOrStdout())
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		p = jsonLines(cmd.OutOrStdout(), func(r *adoptedLine) *adoptedLine { return r })
	}
	return func(cmd *cobra.Command, t *target) error {
		a, err := newAdopter(cmd, t)
		if err != nil {
			return err
		}
		a.ask = func(text string) bool {
			fmt.Fprintln(cmd.ErrOrStderr(), text)
			return yes || askOnTerminal(cmd.ErrOrStderr())
		}
		if !t.app.AdoptKeys {
			fmt.Fprintln(cmd.ErrOrStderr(), "Servers accept these keys when the configuration has adopt_keys on.")
		}
		return a.run(cmd, lines, p)
	}, nil
}
