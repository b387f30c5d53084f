package command

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// keyPrinter prints keys one by one.
type keyPrinter struct {
	print func(k *store.Key)
	end   func(total int) error
}

func keyLines(w io.Writer) keyPrinter {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	var err error
	return keyPrinter{
		print: func(k *store.Key) { err = errors.Join(err, encoder.Encode(admin.ShowKey(k))) },
		end:   func(int) error { return err },
	}
}

func keyTable(w io.Writer) keyPrinter {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tLABEL\tPERMISSIONS\tCREATED\tLAST USED\tEXPIRES")
	return keyPrinter{
		print: func(k *store.Key) {
			permissions := strings.Join(k.Permissions, ",")
			if k.IsSystem {
				permissions = strings.TrimSuffix("system admin,"+permissions, ",")
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, printable(k.Label), printable(orDash(permissions)),
				minuteOf(k.CreatedAt), minuteOf(k.LastUsedAt), minuteOf(k.ExpiresAt))
		},
		end: func(total int) error {
			fmt.Fprintf(table, "%d key(s)\n", total)
			return table.Flush()
		},
	}
}

// recordPrinter prints records one by one.
type recordPrinter struct {
	print func(r *store.AuditRecord) error
	end   func() error
}

func newRecordPrinter(cmd *cobra.Command) recordPrinter {
	out := cmd.OutOrStdout()
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return recordPrinter{
			print: func(r *store.AuditRecord) error { return encoder.Encode(admin.ShowAudit(r)) },
			end:   func() error { return nil },
		}
	}
	if asCSV, _ := cmd.Flags().GetBool("csv"); asCSV {
		return recordCSV(out)
	}
	return recordTable(out)
}

func recordTable(w io.Writer) recordPrinter {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "AT\tEVENT\tKEY\tACTOR\tREQUEST\tSTATUS")
	n := 0
	return recordPrinter{
		print: func(r *store.AuditRecord) error {
			if n++; n%store.MaxAuditLimit == 0 { // a table of a million lines is not held in memory
				if err := table.Flush(); err != nil {
					return err
				}
			}
			status := ""
			if r.Request.Status != 0 {
				status = strconv.Itoa(r.Request.Status)
			}
			actor := r.Actor.ID
			if r.Actor.Label != "" {
				actor = r.Actor.Label
			}
			_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", r.At.Format(time.DateTime+" MST"), r.Event,
				printable(orDash(r.Key.Label)), printable(actor),
				printable(orDash(strings.TrimSpace(r.Request.Method+" "+r.Request.Path))), orDash(status))
			return err
		},
		end: func() error {
			fmt.Fprintf(table, "%d record(s)\n", n)
			return table.Flush()
		},
	}
}

// recordCSV prints RFC 4180. A spreadsheet takes a field that begins like a
// formula for one, and clients choose what some of these hold: an apostrophe in
// front makes it text (https://owasp.org/www-community/attacks/CSV_Injection).
func recordCSV(w io.Writer) recordPrinter {
	out := csv.NewWriter(w)
	header := out.Write([]string{
		"id", "event", "at", "actor_type", "actor_id", "actor_label", "key_id", "key_label",
		"request_id", "method", "path", "status", "client_ip", "details",
	})
	return recordPrinter{
		print: func(r *store.AuditRecord) error {
			if header != nil {
				return header
			}
			key, status := "", ""
			if r.Key.ID != (store.ID{}) {
				key = r.Key.ID.String()
			}
			if r.Request.Status != 0 {
				status = strconv.Itoa(r.Request.Status)
			}
			fields := []string{
				r.ID.String(), string(r.Event), r.At.Format(time.RFC3339Nano), r.Actor.Type, r.Actor.ID, r.Actor.Label,
				key, r.Key.Label, r.Request.ID, r.Request.Method, r.Request.Path, status, r.Request.ClientIP, string(r.Details),
			}
			for i, field := range fields {
				if field != "" && strings.ContainsRune("=+-@\t\r", rune(field[0])) {
					fields[i] = "'" + field
				}
			}
			return out.Write(fields)
		},
		end: func() error {
			out.Flush()
			return errors.Join(header, out.Error())
		},
	}
}

// timeLayout is how tables and messages show a time.
const timeLayout = "2006-01-02 15:04 MST"

// printable keeps what another program wrote into the store from steering a
// terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}

// orDash makes an empty cell show.
func orDash(s string) string {
	if s == "" {
		return "—"
	}
	return s
}

// minuteOf is for times that people plan by.
func minuteOf(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.Format(timeLayout)
}

// secondOf is for times that people look for the cause of something by.
func secondOf(t time.Time) string { return t.Format(time.DateTime + " MST") }
