package command

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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

// readAdopt reads the flags and standard input.
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

// terminal is where somebody can be asked while standard input holds the keys.
const terminal = "/dev/tty"

// askOnTerminal reports whether somebody says yes.
func askOnTerminal(out io.Writer) bool {
	in, err := os.Open(terminal)
	if err != nil {
		return false
	}
	defer func() { _ = in.Close() }() // it was only read
	fmt.Fprint(out, "Go on? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// Bounds of standard input. A longer line is malformed. More lines are an error.
const (
	maxKeyLine  = 36 + len("\t") + token.MaxForeign + len("\r\n")
	maxKeyLines = 100_000
)

// keyLine is a line of standard input.
type keyLine struct {
	number int
	id     store.ID // zero if the line has none
	key    string   // empty if the line is malformed
}

// isSearched reports whether the line does not say which row is the key's.
func (l keyLine) isSearched() bool { return l.key != "" && l.id == (store.ID{}) }

// readKeyLines reads standard input. Empty lines are left out.
func readKeyLines(in io.Reader) ([]keyLine, error) {
	reader := bufio.NewReaderSize(in, maxKeyLine+1)
	var lines []keyLine
	for number := 1; ; number++ {
		text, err := reader.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		malformed := tooLong
		for tooLong && errors.Is(err, bufio.ErrBufferFull) {
			_, err = reader.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the keys: %w", err)
		}
		if text = bytes.TrimSpace(text); malformed || len(text) > 0 {
			line := keyLine{number: number}
			if !malformed {
				line = parseKeyLine(number, string(text))
			}
			if lines = append(lines, line); len(lines) > maxKeyLines {
				return nil, fmt.Errorf("more than %d lines: split the file", maxKeyLines)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
	}
	if len(lines) == 0 {
		return nil, Usagef("standard input is empty: adopt reads the keys from there, one a line")
	}
	return lines, nil
}

// parseKeyLine reads a line. What is no key of another service can be nobody's.
func parseKeyLine(number int, text string) keyLine {
	line := keyLine{number: number}
	id, key, found := strings.Cut(text, "\t")
	if found {
		var err error
		if line.id, err = store.ParseKeyID(id); err != nil {
			return line
		}
	} else {
		key = id
	}
	if token.Foreign(key) {
		line.key = key
	}
	return line
}

// The results of a line that was not adopted. They say nothing of its key.
const (
	resultAdopted   = "adopted"
	resultBefore    = "adopted already"
	resultMalformed = "malformed"
	resultNoRow     = "no row"
	resultOther     = "the row has the hash of another key"
	resultUnusable  = "the row has a hash that cannot be used"
	resultTooLarge  = "the hash needs more memory than hash_memory"
	resultExpired   = "expired"
	resultMinted    = "minted here"
	resultChanged   = "the row was changed meanwhile"
	resultUnasked   = "not searched for"
)

// adoptedLine is what became of a line.
type adoptedLine struct {
	Line   int    `json:"line"`
	ID     string `json:"id,omitempty"`
	Label  string `json:"label,omitempty"`
	Result string `json:"result"`
}

// good reports whether servers find the key of the line from now on.
func (r *adoptedLine) good() bool { return r.Result == resultAdopted || r.Result == resultBefore }

// adoptedTable prints results as a table for people.
func adoptedTable(w io.Writer) printer[adoptedLine] {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LINE\tID\tLABEL\tRESULT")
	good := 0
	return printer[adoptedLine]{
		print: func(r *adoptedLine) error {
			if r.good() {
				good++
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", r.Line, orDash(r.ID), printable(orDash(r.Label)), r.Result)
			return nil
		},
		end: func(total int) error {
			fmt.Fprintf(table, "%d line(s): %d adopted, now or before, %d not\n", total, good, total-good)
			return table.Flush()
		},
	}
}

// estimate says in words how long a search takes at most.
func estimate(keys, rows, workers int, unit, longest time.Duration) string {
	return fmt.Sprintf("%d key(s) without an id are tried against %d row(s): up to %d hash(es), each some %s, %d at a time. That takes %s at most.",
		keys, rows, keys*rows, unit.Round(time.Millisecond), workers, cmp.Or(longest.Round(time.Second), time.Second))
}
