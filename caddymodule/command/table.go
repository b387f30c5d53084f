package command

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

// columnGap is how many blanks stand between two columns.
const columnGap = 2

// minColumn is how narrow [fit] may make a column. In less room a label says nothing any more.
// The table then stays too wide, and the terminal breaks its lines.
const minColumn = 8

// terminalWidth is how many columns the terminal has. It is 0 if out is none, such as a pipe or
// the buffer of a test. The callers take 0 for a width without bounds.
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

// writeTable prints rows of equal length, column below column. Unlike text/tabwriter it knows
// that a letter of some scripts, and most emoji, take two columns of a terminal (Unicode
// Standard Annex 11). The last cell of a row gets no blanks behind it. It writes all rows at
// once.
func writeTable(w io.Writer, rows [][]string) error {
	var text strings.Builder
	widths := columnWidths(rows)
	for _, row := range rows {
		pad := 0
		for i, cell := range row {
			text.WriteString(strings.Repeat(" ", pad))
			text.WriteString(cell)
			pad = widths[i] - uniseg.StringWidth(cell) + columnGap
		}
		text.WriteByte('\n')
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// tableWidth is how wide a table of these rows is.
func tableWidth(rows [][]string) int {
	width := -columnGap
	for _, column := range columnWidths(rows) {
		width += column + columnGap
	}
	return width
}

// columnWidths is how wide the widest cell of each column is, its head included.
func columnWidths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	return widths
}

// fit cuts cells of these columns, the first one first, until the table fits a terminal of this
// width. Elsewhere, where the width is 0, it changes no cell. Other columns, such as an id that
// somebody wants to copy, are never cut.
func fit(rows [][]string, width int, columns ...int) {
	for _, column := range columns {
		over := tableWidth(rows) - width
		if width == 0 || over <= 0 {
			return
		}
		most := max(minColumn, columnWidths(rows)[column]-over)
		for _, row := range rows {
			row[column] = cutTo(row[column], most)
		}
	}
}

// cutTo cuts a text to a width. It never cuts inside of what a reader sees as one character,
// such as an emoji that several code points make (Unicode Standard Annex 29, grapheme clusters).
// The ellipsis takes one column of the width.
func cutTo(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	kept, left, state := 0, width-1, -1
	for rest := text; rest != ""; {
		var cluster string
		var wide int
		cluster, rest, wide, state = uniseg.FirstGraphemeClusterInString(rest, state)
		// A character of two columns may leave one column free.
		if left -= wide; left < 0 {
			break
		}
		kept += len(cluster)
	}
	return text[:kept] + "…"
}

// listCell shows a list in a cell: all of it, or its beginning and how many more there are. A
// negative number means all. A list with one element too many is shown as it is: "+1 more" would
// be about as long.
func listCell(all []string, most int) string {
	if most >= 0 && len(all) > most+1 {
		return strings.TrimSpace(fmt.Sprintf("%s +%d more", strings.Join(all[:most], ","), len(all)-most))
	}
	return orDash(strings.Join(all, ","))
}

// orDash shows an empty cell as a dash.
func orDash(s string) string {
	if s == "" {
		return "—"
	}
	return s
}
