package caddymodule

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

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit [--key ID] [--label LABEL] [--event EVENT] [--actor ID] [--since DURATION] [--json | --csv]\n" +
			"  caddy system-keys audit --verify",
		Short: "Shows the audit log, or checks it",
		Long: `
Prints the records that match, the newest first, as a table, or for other
programs with --json (the objects of the API, one a line) or --csv.

With --verify looks through the whole log instead: every record is chained to the
one before it under the configuration's secret, so that one which was changed,
moved or taken away shows. Prints a line for each chain, and fails if something is
wrong. The MAC at the end of a line is that of the chain's last record: kept
elsewhere, it shows later whether the log was set back as a whole.`,
		Example: `  caddy system-keys audit --event api_key.denied --since 24h
  caddy system-keys audit --since 90d --csv > audit.csv`,
		Args: arguments(cobra.NoArgs),
		RunE: run(showAudit),
	}
	cmd.Flags().String("key", "", "Only records of the key with this id")
	cmd.Flags().String("label", "", "Only records of keys that had this label")
	cmd.Flags().String("event", "", "Only records of this event, such as api_key.revoked")
	cmd.Flags().String("actor", "", "Only records of this actor: a key's id, a user, cli or sql")
	cmd.Flags().String("since", "", "Only records that are not older than this, such as 24h or 90d")
	cmd.Flags().Bool("json", false, "Print the objects of the API, one a line")
	cmd.Flags().Bool("csv", false, "Print comma-separated values")
	cmd.Flags().Bool("verify", false, "Check that no record was changed or taken away")
	return cmd
}

func showAudit(cmd *cobra.Command, _ []string) (act, error) {
	forms := 0
	for _, name := range []string{"json", "csv", "verify"} {
		if set, _ := cmd.Flags().GetBool(name); set {
			forms++
		}
	}
	if forms > 1 {
		return nil, usagef("--json, --csv and --verify exclude each other")
	}
	if verify, _ := cmd.Flags().GetBool("verify"); verify {
		for _, name := range []string{"key", "label", "event", "actor", "since"} {
			if cmd.Flags().Changed(name) {
				return nil, usagef("--verify looks at the whole log: not with --%s", name)
			}
		}
		return verifyAudit, nil
	}
	query := store.AuditQuery{Limit: store.MaxAuditLimit}
	query.Label, _ = cmd.Flags().GetString("label")
	actor, _ := cmd.Flags().GetString("actor")
	query.Actor = store.Canonical(actor)
	if text, _ := cmd.Flags().GetString("key"); text != "" {
		id, err := store.ParseID(text)
		if err != nil {
			return nil, usagef("--key: %q: %w", text, err)
		}
		query.Key = id
	}
	event, _ := cmd.Flags().GetString("event")
	if query.Event = store.AuditEvent(event); event != "" && !query.Event.Valid() {
		return nil, usagef("--event: must be one of %s, not %q", store.AuditEventNames(), event)
	}
	var age time.Duration
	since, _ := cmd.Flags().GetString("since")
	if since != "" {
		var err error
		if age, err = caddy.ParseDuration(since); err != nil || age < 0 {
			return nil, usagef("--since: not a duration, such as 24h: %q", since)
		}
	}
	printer := auditPrinter(cmd)
	return func(cmd *cobra.Command, t *target) error {
		if since != "" {
			query.Since = t.now().Add(-age)
		}
		return printAudit(cmd, t, &query, printer)
	}, nil
}

// printAudit prints every page.
func printAudit(cmd *cobra.Command, t *target, query *store.AuditQuery, printer auditOutput) error {
	service, err := t.service(cmd.Context())
	if err != nil {
		return err
	}
	for {
		page, err := service.AuditLog(cmd.Context(), admin.CLI(), query)
		if err != nil {
			return err
		}
		for i := range page.Records {
			if err := printer.print(&page.Records[i]); err != nil {
				return err
			}
		}
		if page.Next == (store.ID{}) {
			return printer.end()
		}
		query.Before = page.Next
	}
}

// auditOutput prints records one by one.
type auditOutput struct {
	print func(r *store.AuditRecord) error
	end   func() error
}

func auditPrinter(cmd *cobra.Command) auditOutput {
	out := cmd.OutOrStdout()
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		return auditOutput{
			print: func(r *store.AuditRecord) error { return encoder.Encode(admin.ShowAudit(r)) },
			end:   func() error { return nil },
		}
	}
	if asCSV, _ := cmd.Flags().GetBool("csv"); asCSV {
		return auditCSV(out)
	}
	return auditTable(out)
}

func auditTable(w io.Writer) auditOutput {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "AT\tEVENT\tKEY\tACTOR\tREQUEST\tSTATUS")
	n := 0
	return auditOutput{
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
				printable(dash(r.Key.Label)), printable(actor),
				printable(dash(strings.TrimSpace(r.Request.Method+" "+r.Request.Path))), dash(status))
			return err
		},
		end: func() error {
			fmt.Fprintf(table, "%d record(s)\n", n)
			return table.Flush()
		},
	}
}

// auditCSV prints RFC 4180. A spreadsheet takes a field that begins like a
// formula for one, and clients choose what some of these hold: an apostrophe in
// front makes it text (https://owasp.org/www-community/attacks/CSV_Injection).
func auditCSV(w io.Writer) auditOutput {
	out := csv.NewWriter(w)
	header := out.Write([]string{
		"id", "event", "at", "actor_type", "actor_id", "actor_label", "key_id", "key_label",
		"request_id", "method", "path", "status", "client_ip", "details",
	})
	return auditOutput{
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
