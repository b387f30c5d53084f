package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// auditCommand reads the audit log, and is the only command that can verify its chains: the
// admin plane has no call for that.
//
// Records go to standard output, in one of three formats. So does the report of --verify. The
// status of --verify is 1 if a chain is broken, so that a timer can run it.
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
		Args: cobra.NoArgs,
		RunE: onStore(readAudit),
	}
	cmd.Flags().String("key", "", "Only records of the key with this id")
	cmd.Flags().String("label", "", "Only records of keys that had this label")
	cmd.Flags().String("event", "", "Only records of this event, such as api_key.revoked")
	cmd.Flags().String("actor", "", "Only records of this actor: a key's id, a user, cli or sql")
	cmd.Flags().String("since", "", "Only records that are not older than this, such as 24h or 90d")
	cmd.Flags().Bool("json", false, "Print the objects of the API, one a line")
	cmd.Flags().Bool("csv", false, "Print comma-separated values")
	cmd.Flags().Bool("verify", false, "Check that no record was changed or taken away")
	complete(cmd, "event", strings.Split(store.AuditEventNames(), ", ")...)
	return cmd
}

// readAudit reads and checks the flags. An unknown event or a mistyped id is wrong usage: a
// filter that matches nothing would look like a log without such records.
func readAudit(cmd *cobra.Command, _ []string) (action, error) {
	formats := 0
	for _, name := range []string{"json", "csv", "verify"} {
		if set, _ := cmd.Flags().GetBool(name); set {
			formats++
		}
	}
	if formats > 1 {
		return nil, Usagef("--json, --csv and --verify exclude each other")
	}
	if verify, _ := cmd.Flags().GetBool("verify"); verify {
		// A filter would leave a part of a chain, and a part cannot be verified.
		for _, name := range []string{"key", "label", "event", "actor", "since"} {
			if cmd.Flags().Changed(name) {
				return nil, Usagef("--verify looks at the whole log: not with --%s", name)
			}
		}
		return verifyAudit, nil
	}
	query := store.AuditQuery{Limit: store.MaxAuditLimit}
	query.Label, _ = cmd.Flags().GetString("label")
	actor, _ := cmd.Flags().GetString("actor")
	// An id in capital letters is the same actor.
	query.Actor = store.Canonical(actor)
	if text, _ := cmd.Flags().GetString("key"); text != "" {
		id, err := store.ParseKeyID(text)
		if err != nil {
			return nil, Usagef("--key: %q: %w", text, err)
		}
		query.Key = id
	}
	event, _ := cmd.Flags().GetString("event")
	if query.Event = store.AuditEvent(event); event != "" && !query.Event.Valid() {
		return nil, Usagef("--event: must be one of %s, not %q", store.AuditEventNames(), event)
	}
	age, err := durationFlag(cmd, "since", 0, "not a duration, such as 24h")
	if err != nil {
		return nil, err
	}
	// The clock is read when the command runs, as for every duration of these commands.
	p := recordPrinter(cmd)
	return func(cmd *cobra.Command, t *target) error {
		if cmd.Flags().Changed("since") {
			query.Since = t.now().Add(-age)
		}
		return printRecords(cmd, t, &query, p)
	}, nil
}

// printRecords prints every page. It reads one page at a time. The order is that of the events,
// and servers write records a little later than that. So a record that is written meanwhile is
// printed if its place is behind the pages that were read. Reading the log is not recorded in
// the log.
func printRecords(cmd *cobra.Command, t *target, query *store.AuditQuery, p printer[store.AuditRecord]) error {
	service := t.service()
	n := 0
	for {
		page, err := service.AuditLog(cmd.Context(), admin.CLI(), query)
		if err != nil {
			return err
		}
		for i := range page.Records {
			if err := p.print(&page.Records[i]); err != nil {
				return err
			}
		}
		n += len(page.Records)
		// The total is counted here: the store stops counting at [store.MaxAuditTotal].
		if page.Next == (store.ID{}) {
			return p.end(n)
		}
		query.Before = page.Next
	}
}

// verifyAudit runs `audit --verify`. It prints all chains before it fails, as the report is what
// somebody needs then. It changes nothing, and does not seal the records that wait.
//
// Without a secret everybody can compute the MACs. So a log that verifies without one shows that
// nothing was damaged, and not that nobody has forged it.
func verifyAudit(cmd *cobra.Command, t *target) error {
	secrets, err := t.secrets()
	if err != nil {
		return err
	}
	report, err := audit.Verify(cmd.Context(), t.store, secrets)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for i := range report.Chains {
		printChain(cmd, &report.Chains[i])
	}
	if report.Unsealed > 0 {
		// The command line itself leaves records unsealed where it knows no secret. That is no
		// fault.
		fmt.Fprintf(out, "%d record(s) wait for a server to seal them\n", report.Unsealed-report.Foreign)
	}
	if report.Foreign > 0 {
		fmt.Fprintf(out, "%d record(s) are not sealed and were not written by this program\n", report.Foreign)
	}
	if report.OK(len(secrets) > 0) {
		if len(secrets) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "No secret is known here: this shows accidents, and no forger. Name the configuration with --config.")
		}
		fmt.Fprintln(out, "ok")
		return nil
	}
	// Records that a server has sealed under its secret seem broken to whoever does not have it.
	if len(secrets) == 0 {
		return errors.New("the audit log does not verify without a secret: name the configuration that has it with --config")
	}
	return errors.New("the audit log does not verify")
}

// printChain prints one chain: its id, the numbers of its records, the MAC of the last one, and
// what is wrong. Each server has a chain of its own for requests. All changes of keys are in one
// chain, which has a name in place of its id.
func printChain(cmd *cobra.Command, c *audit.ChainReport) {
	out := cmd.OutOrStdout()
	name := c.ID.String()
	if c.ID == store.SharedChain {
		name = "changes of keys                     " // as wide as an id
	}
	records := "no records"
	if c.Last >= c.First {
		records = fmt.Sprintf("records %d to %d", c.First, c.Last)
	}
	fmt.Fprintf(out, "%s  %s  %x\n", name, records, c.Head)
	if c.Unkeyed > 0 {
		fmt.Fprintf(out, "  %d record(s) were chained without a secret\n", c.Unkeyed)
	}
	for _, problem := range c.Problems {
		fmt.Fprintf(out, "  %s\n", problem)
	}
}
