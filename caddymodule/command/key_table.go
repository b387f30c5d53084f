package command

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// terminalWidth is how many columns the terminal has. It is 0 if out is none.
func terminalWidth(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// keyColumns are the columns of the table of keys.
var keyColumns = []string{"ID", "LABEL", "PERMISSIONS", "NETWORKS", "CREATED", "LAST USED", "EXPIRES"}

// dispensable are the columns that are left out on a terminal that is too narrow, the first
// one first.
var dispensable = []string{"CREATED", "NETWORKS", "EXPIRES", "LAST USED"}

// keyTable prints keys as a table for people. Cells with text of other programs are made
// printable. On a terminal of this width, long lists are cut, and columns that do not fit are
// left out. Elsewhere, where the width is 0, the table has all: it may be searched.
func keyTable(w io.Writer, width int) printer[store.Key] {
	rows := [][]string{slices.Clone(keyColumns)}
	return printer[store.Key]{
		print: func(k *store.Key) error {
			permissions := slices.Clone(k.Permissions)
			if k.IsSystem {
				permissions = slices.Insert(permissions, 0, "system admin")
			}
			rows = append(rows, []string{
				k.ID.String(), printable(k.Label), printable(listCell(permissions, width)), listCell(k.Networks.Strings(), width),
				minuteOf(k.CreatedAt), minuteOf(k.LastUsedAt), minuteOf(k.ExpiresAt),
			})
			return nil
		},
		end: func(total int) error {
			var left []string
			for _, name := range dispensable {
				if width == 0 || tableWidth(rows) <= width {
					break
				}
				column := slices.Index(rows[0], name)
				for i := range rows {
					rows[i] = slices.Delete(rows[i], column, column+1)
				}
				left = append(left, strings.ToLower(name))
			}
			table := tabwriter.NewWriter(w, 0, 0, columnGap, ' ', 0)
			for _, row := range rows {
				fmt.Fprintln(table, strings.Join(row, "\t"))
			}
			fmt.Fprintf(table, "%d key(s)", total)
			if len(left) > 0 {
				fmt.Fprintf(table, "; left out on this terminal: %s", strings.Join(left, ", "))
			}
			fmt.Fprintln(table)
			return table.Flush()
		},
	}
}

// columnGap is how many blanks stand between two columns.
const columnGap = 2

// tableWidth is how wide a table of these rows is.
func tableWidth(rows [][]string) int {
	width := -columnGap
	for column := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(row[column]))
		}
		width += widest + columnGap
	}
	return width
}

// maxListed is how many elements a cell has on a terminal, "+2 more" being one of them.
const maxListed = 5

// listCell shows a list in a cell. On a terminal it shows the beginning of a long one.
func listCell(all []string, width int) string {
	if width > 0 && len(all) > maxListed {
		return fmt.Sprintf("%s +%d more", strings.Join(all[:maxListed-1], ","), len(all)-maxListed+1)
	}
	return orDash(strings.Join(all, ","))
}
