package command

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// printer prints keys or audit records one by one, and their number at the end. The table for
// people, JSON and CSV are printers, so a command reads its pages in one way for all of them.
// Not every format prints the number. After an error of print the caller stops, and does not
// call end.
type printer[T any] struct {
	print func(*T) error
	end   func(total int) error
}

// jsonLines prints the objects of the API, one a line. Each line is written at once, so a reader
// sees the first key before the last page is read. There is no enclosing list, and no total:
// what was printed before an error is still valid.
func jsonLines[T, Shown any](w io.Writer, show func(*T) Shown) printer[T] {
	encoder := newEncoder(w)
	return printer[T]{
		print: func(item *T) error { return encoder.Encode(show(item)) },
		end:   func(int) error { return nil },
	}
}

// newEncoder encodes JSON like the API, which does not escape HTML: & and < in a label stay what
// they are.
func newEncoder(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder
}

// recordPrinter prints audit records in the format that the flags name. [readAudit] has refused
// more than one format.
func recordPrinter(cmd *cobra.Command) printer[store.AuditRecord] {
	out := cmd.OutOrStdout()
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		return jsonLines(out, admin.ShowAudit)
	}
	if asCSV, _ := cmd.Flags().GetBool("csv"); asCSV {
		return recordCSV(out)
	}
	return recordTable(out, terminalWidth(out))
}

// recordTable prints audit records as a table for people, which fits a terminal of this width.
// The request is cut first, since it is usually the longest.
//
// A log of more than a thousand records is printed in parts. Only the first one has the heads of
// the columns, and each part has widths of its own.
//
// The table has what an operator searches by. The client's address, the ids and the details are
// in the other formats.
func recordTable(w io.Writer, width int) printer[store.AuditRecord] {
	rows := [][]string{{"AT", "EVENT", "KEY", "ACTOR", "REQUEST", "STATUS"}}
	const key, actor, request = 2, 3, 4
	flush := func() error {
		fit(rows, width, request, actor, key)
		err := writeTable(w, rows)
		rows = rows[:0]
		return err
	}
	return printer[store.AuditRecord]{
		print: func(r *store.AuditRecord) error {
			rows = append(rows, []string{
				secondOf(r.At), string(r.Event), printable(orDash(r.Key.Label)), printable(r.Actor.Text()),
				printable(orDash(strings.TrimSpace(r.Request.Method + " " + r.Request.Path))), orDash(statusText(r.Request.Status)),
			})
			if len(rows) >= store.MaxAuditLimit { // do not hold a table of a million lines in memory
				return flush()
			}
			return nil
		},
		end: func(total int) error {
			if err := flush(); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "%d record(s)\n", total)
			return err
		},
	}
}

// recordCSV prints CSV as RFC 4180 has it, with a header (section 2, rule 3). Only the line ends
// differ: a line ends with LF, as other programs of Unix expect it. Clients choose the text of
// some fields, and a spreadsheet runs a field that begins like a formula. An apostrophe in front
// makes the field text (https://owasp.org/www-community/attacks/CSV_Injection).
//
// The columns are an interface: scripts name them. Times have all digits that the store keeps.
//
// The details are JSON in one field, since their members differ from event to event. An error of
// writing comes at the latest at the end, as the rows are buffered.
func recordCSV(w io.Writer) printer[store.AuditRecord] {
	out := csv.NewWriter(w)
	header := out.Write([]string{
		"id", "event", "at", "actor_type", "actor_id", "actor_label", "key_id", "key_label",
		"request_id", "method", "path", "status", "client_ip", "details",
	})
	return printer[store.AuditRecord]{
		print: func(r *store.AuditRecord) error {
			// The function that makes the printer returns no error, so print returns this one.
			if header != nil {
				return header
			}
			key := ""
			if r.Key.ID != (store.ID{}) {
				key = r.Key.ID.String()
			}
			fields := []string{
				r.ID.String(), string(r.Event), r.At.Format(time.RFC3339Nano), r.Actor.Type, r.Actor.ID, r.Actor.Label,
				key, r.Key.Label, r.Request.ID, r.Request.Method, r.Request.Path, statusText(r.Request.Status), r.Request.ClientIP, string(r.Details),
			}
			for i, field := range fields {
				if field != "" && strings.ContainsRune("=+-@\t\r", rune(field[0])) {
					fields[i] = "'" + field
				}
			}
			return out.Write(fields)
		},
		end: func(int) error {
			out.Flush()
			return errors.Join(header, out.Error())
		},
	}
}

// statusText is empty for a record of no request: the command line and plain SQL have none.
func statusText(status int) string {
	if status == 0 {
		return ""
	}
	return strconv.Itoa(status)
}

// timeLayout is the format of times in tables and messages. It names the zone, since a server
// and the terminal of its operator may be in different ones.
const timeLayout = "2006-01-02 15:04 MST"

// Emoji of several code points have these in them: the zero-width joiner, and the tags of flags
// (https://www.unicode.org/reports/tr51/).
const (
	joiner   = '\u200d'
	firstTag = '\U000e0020'
	lastTag  = '\U000e007f'
)

// printable replaces control characters. Other programs may have written them into the store,
// and a terminal would obey them: an escape sequence can hide a line, or write one that looks
// like ours. Characters that turn the direction of text, such as U+202E, are replaced too. Each
// character becomes one U+FFFD, so that the reader sees that something was there.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) || r == joiner || r >= firstTag && r <= lastTag {
			return r
		}
		return '�'
	}, s)
}

// minuteOf shows a time by which people plan. No time is a dash: never used, or never expires.
func minuteOf(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.Format(timeLayout)
}

// secondOf shows a time by which people search for a cause. It must be compared with the lines
// of other logs, which have seconds.
func secondOf(t time.Time) string { return t.Format(time.DateTime + " MST") }
