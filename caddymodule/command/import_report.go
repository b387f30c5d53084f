package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
)

// importTotals are counts of rows. Rows is the sum of Fit, There and Unfit. With --follow they
// are of the look at the table that comes first.
type importTotals struct {
	Rows int `json:"rows"`
	Fit  int `json:"fit"` // and are not there already
	// Relabelled rows fit, with a label that was repaired.
	Relabelled int `json:"relabelled"`
	There      int `json:"there"`
	Unfit      int `json:"unfit"`
	// Problems are the rows that do not fit, by our name of a column. A row may have
	// several problems.
	Problems map[string]int `json:"problems"`
}

// count counts a row with problems. Two problems of one column count once for it.
func (t *importTotals) count(problems []movein.Problem) {
	t.Unfit++
	var fields []string
	for _, p := range problems {
		if !slices.Contains(fields, p.Field) {
			fields = append(fields, p.Field)
			t.Problems[p.Field]++
		}
	}
}

// String is the last line of the table. The columns are sorted by name, so that two runs can be
// compared.
func (t *importTotals) String() string {
	text := fmt.Sprintf("%d row(s): %d fit", t.Rows, t.Fit)
	if t.Relabelled > 0 {
		text += fmt.Sprintf(" (%d of them with a repaired label)", t.Relabelled)
	}
	text += fmt.Sprintf(", %d are there already, %d do not fit", t.There, t.Unfit)
	if t.Unfit > 0 {
		counts := make([]string, 0, len(t.Problems))
		for field, n := range t.Problems {
			counts = append(counts, fmt.Sprintf("%s %d", field, n))
		}
		slices.Sort(counts)
		text += " (" + strings.Join(counts, ", ") + ")"
	}
	return text
}

// unfitRow is a row that does not fit, as it is printed.
//
// Its fields are those of the JSON output. The texts have passed [showUnfit].
type unfitRow struct {
	ID       string           `json:"id"`
	Label    string           `json:"label"`
	Problems []movein.Problem `json:"problems"`
}

// maxShown is how many characters of a text of the other table are printed.
//
// It is the length of the longest label. More of a text does not help to find its row.
const maxShown = 100

// showUnfit takes keys and hashes out of the texts. A column that was taken for another one may
// hold them: --map label=key_hash would print every hash. The texts are redacted before they are
// cut, since a part of a key is not recognized.
func showUnfit(row *movein.Row, problems []movein.Problem) *unfitRow {
	show := func(s string) string {
		if runes := []rune(movein.Redact(s)); len(runes) > maxShown {
			return string(runes[:maxShown]) + "…"
		}
		return movein.Redact(s)
	}
	return &unfitRow{show(row.ID), show(row.Label), problems}
}

// reasons are the problems in one line.
func (r *unfitRow) reasons() string {
	all := make([]string, len(r.Problems))
	for i, p := range r.Problems {
		all[i] = p.Field + " " + p.Reason
	}
	return strings.Join(all, "; ")
}

// printLayout says what is read, and names the columns that are not. One of those may say that a
// row was revoked or has expired. Such a row would come to life here. Only the operator knows,
// so the line comes before the first row is read, and --dry-run shows it too.
func printLayout(cmd *cobra.Command, layout movein.Layout) {
	var read []string
	for _, c := range layout.Columns {
		switch c.Theirs {
		case "":
			read = append(read, "no "+c.Ours)
		case c.Ours:
			read = append(read, c.Ours)
		default:
			read = append(read, c.Ours+" from "+c.Theirs)
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Reads %s: %s.\n", printable(layout.Table), printable(strings.Join(read, ", ")))
	if len(layout.Unread) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "Not read: %s. If one of them says that a key has ended, read a view without such rows.\n",
			printable(strings.Join(layout.Unread, ", ")))
	}
}

// followedLine says in one line what is followed. Keys that came from a table whose triggers are
// gone are refused: a revocation there would not be noticed here.
func followedLine(f *movein.Followed) string {
	line := fmt.Sprintf("Follows %s since %s: %d of its row(s) do not fit.", printable(f.Table), minuteOf(f.Since), f.Unfit)
	if !f.Carried {
		line += " Its triggers are missing or were disabled, so the keys that came from it are not accepted. Run import --follow again."
	}
	return line
}

// importPrinter prints the rows that do not fit, and the totals at the end. The totals go to
// standard output with the rows. What was done with them goes to standard error.
type importPrinter struct {
	print func(row *unfitRow) error
	end   func(totals *importTotals) error
}

// importReport is the printer that the flags name.
func importReport(cmd *cobra.Command) importPrinter {
	out := cmd.OutOrStdout()
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := newEncoder(out)
		return importPrinter{
			print: func(row *unfitRow) error { return encoder.Encode(row) },
			end:   func(totals *importTotals) error { return encoder.Encode(totals) },
		}
	}
	return importTable(out)
}

// importTable prints a table for people. If all rows fit, it has no heads of columns, and only
// the totals are printed.
//
// It is written in parts, each with widths of its own, so that memory does not grow with the
// other table.
func importTable(w io.Writer) importPrinter {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	n := 0
	return importPrinter{
		print: func(row *unfitRow) error {
			if n == 0 {
				fmt.Fprintln(table, "ID\tLABEL\tWHY IT DOES NOT FIT")
			}
			if n++; n%importBatch == 0 { // do not hold a table of a million lines in memory
				if err := table.Flush(); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(table, "%s\t%s\t%s\n", printable(orDash(row.ID)), printable(orDash(row.Label)), printable(row.reasons()))
			return err
		},
		end: func(totals *importTotals) error {
			fmt.Fprintln(table, totals)
			return table.Flush()
		},
	}
}

// importBatch is how many rows are compared with the store, and written, at a time. It bounds
// the memory for a table of any size, and the number of questions to the store.
const importBatch = 500
