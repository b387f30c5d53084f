package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of standard input. A longer line is malformed. More lines are an error.
//
// The longest good line is a UUID, a tab and the longest key that servers accept. All lines are
// in memory at once. A hundred thousand of them also bound the hashes of a search, which are
// lines times rows.
const (
	maxKeyLine  = 36 + len("\t") + token.MaxForeign + len("\r\n")
	maxKeyLines = 100_000
)

// keyLine is a line of standard input. A line that is malformed is kept as well, without its
// text: it has a number and a result like any other.
type keyLine struct {
	number int
	id     store.ID // zero if the line has none
	key    string   // empty if the line is malformed
}

// isSearched reports whether the line does not say which row is the key's.
func (l keyLine) isSearched() bool { return l.key != "" && l.id == (store.ID{}) }

// readKeyLines reads standard input to its end. Empty lines are left out, and still count for
// the numbers: line 7 is the one that an editor shows as 7. Line ends may be those of Windows.
// No line at all is wrong usage, since the redirection is missing or the file is the wrong one.
func readKeyLines(in io.Reader) ([]keyLine, error) {
	// A scanner would end at the first line that is too long. The lines behind it are as good as
	// others.
	reader := bufio.NewReaderSize(in, maxKeyLine+1)
	var lines []keyLine
	for number := 1; ; number++ {
		text, err := reader.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		malformed := tooLong
		// The rest of the line is read and dropped. It could look like a key of its own.
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

// parseKeyLine reads a line. What is no key of another service can be nobody's. It returns a
// malformed line rather than an error, so that one bad line does not stop the others.
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

// The results of a line. They say nothing of its key.
//
//   - adopted, or adopted already: servers find the row by the key from now on.
//   - malformed: neither a key of another service nor an id, a tab and such a key.
//   - no row: there is no row with the id, or none of those that were searched has the key.
//   - the row has the hash of another key: the id of the line is wrong, or the key is.
//   - the row has a hash that cannot be used: it is no Argon2id, or its parameters are out of
//     bounds.
//   - the hash needs more memory than hash_memory: the setting has to be raised first.
//   - expired: the key would be refused anyway.
//   - minted here: the key or the row is one of this store, which needs no entry.
//   - the row was changed meanwhile: run the command again.
//   - not searched for: nobody has said yes to the search.
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

// adoptedLine is what became of a line. ID and Label are those of the row, if one was found. The
// key is nowhere in it.
type adoptedLine struct {
	Line   int    `json:"line"`
	ID     string `json:"id,omitempty"`
	Label  string `json:"label,omitempty"`
	Result string `json:"result"`
}

// good reports whether servers find the key of the line from now on.
//
// All others count as failed, also an expired row: the status tells whether somebody has to
// look.
func (r *adoptedLine) good() bool { return r.Result == resultAdopted || r.Result == resultBefore }

// adoptedTable prints results as a table for people. It prints all at the end, as the table is
// at most [maxKeyLines] long.
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
