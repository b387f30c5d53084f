package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// keyColumns are the columns of the table of keys. The id comes first, and is never left out or
// cut: the next command needs it.
var keyColumns = []string{"ID", "LABEL", "PERMISSIONS", "NETWORKS", "CREATED", "LAST USED", "EXPIRES"}

// The columns that are always there. They stand before those of [dispensable], so that their
// numbers stay right when columns are removed.
const (
	labelColumn       = 1
	permissionsColumn = 2
)

// dispensable are the columns that are left out on a terminal that is too narrow, the first one
// first. The last use stays longest: people list keys to find those that nobody needs.
var dispensable = []string{"CREATED", "NETWORKS", "EXPIRES", "LAST USED"}

// maxListed is how many elements of a list a cell has on a terminal before "+2 more". A fifth
// one is still shown if it is the last: see [listCell].
const maxListed = 4

// keyTable prints keys as a table for people. Cells with text of other programs are made
// printable. On a terminal of this width, long lists are cut, and columns that do not fit are
// left out. Elsewhere, where the width is 0, the table has all: it may be searched.
//
// It prints nothing before the end, since the widths of the columns depend on all keys. Until
// the table fits, columns are left out, then more and more permissions are counted in place of
// listed, then cells are cut.
//
// It holds a row of text for each key, so a very long list takes memory. --json does not.
func keyTable(w io.Writer, width int) printer[store.Key] {
	// The permissions of each row are kept as a list: their cell may have to be made anew. The
	// head has none.
	rows, lists := [][]string{slices.Clone(keyColumns)}, [][]string{nil}
	most := -1
	if width > 0 {
		most = maxListed
	}
	return printer[store.Key]{
		print: func(k *store.Key) error {
			var permissions []string
			if k.IsSystem {
				permissions = append(permissions, "system admin")
			}
			for _, permission := range k.Permissions {
				permissions = append(permissions, printable(permission))
			}
			lists = append(lists, permissions)
			rows = append(rows, []string{
				k.ID.String(), printable(k.Label), listCell(permissions, most), listCell(k.Networks.Strings(), most),
				minuteOf(k.CreatedAt), minuteOf(k.LastUsedAt), minuteOf(k.ExpiresAt),
			})
			return nil
		},
		end: func(total int) error {
			left := dispense(rows, width)
			for n := maxListed - 1; n >= 0 && width > 0 && tableWidth(rows) > width; n-- {
				for i := range rows[1:] {
					rows[i+1][permissionsColumn] = listCell(lists[i+1], n)
				}
			}
			fit(rows, width, labelColumn, permissionsColumn)
			if err := writeTable(w, rows); err != nil {
				return err
			}
			// Whoever misses a column must know that a wider terminal, or a pipe, has it.
			note := ""
			if len(left) > 0 {
				note = "; left out on this terminal: " + strings.Join(left, ", ")
			}
			_, err := fmt.Fprintf(w, "%d key(s)%s\n", total, note)
			return err
		},
	}
}

// dispense removes columns until the table fits, and returns their names. It changes the rows.
// If all of them are gone, the table may still be too wide.
func dispense(rows [][]string, width int) (left []string) {
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
	return left
}
