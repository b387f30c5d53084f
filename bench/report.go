package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

// report is what a run has found.
type report struct {
	Machine machine `json:"machine"`
	Rows    []row   `json:"rows"`
}

// print writes it as one table.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "part\tof\twhat\tmedian\t(min to max)\tn")
	for _, row := range r.Rows {
		what := row.What
		if row.Unit != count {
			what += ", " + row.Unit
		}
		spread := ""
		if row.Min != row.Max {
			spread = fmt.Sprintf("(%s to %s)", short(row.Unit, row.Min), short(row.Unit, row.Max))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", row.Part, row.Name, what, short(row.Unit, row.Median), spread, row.N)
	}
	return table.Flush()
}

// save writes it to a file, as JSON.
func (r *report) save(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

// short writes a figure with three digits that count, and a ratio with three
// behind the point.
func short(unit string, v float64) string {
	switch {
	case unit == ratio:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v >= 100 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	text := strconv.FormatFloat(v, 'g', 3, 64)
	if strings.Contains(text, "e") {
		return strconv.FormatFloat(v, 'f', 6, 64)
	}
	return text
}
