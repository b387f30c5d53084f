package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// timeLayout is how tables and messages show a time.
const timeLayout = "2006-01-02 15:04 MST"

// orders are the values of --sort: those that need looking after come first.
var orders = map[string]store.KeyQuery{
	"created":   {Sort: store.SortCreatedAt, Desc: true},
	"label":     {Sort: store.SortLabel},
	"last-used": {Sort: store.SortLastUsedAt},
}

func listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [--json] [--sort created|label|last-used] [--unused-for DURATION]",
		Short: "Lists the keys",
		Long: `
Prints a table, or with --json the objects of the API, one a line. Sorted by
creation the newest key comes first; by last use the one that is idle longest,
with those never used before all others.`,
		Args: arguments(cobra.NoArgs),
		RunE: run(list),
	}
	cmd.Flags().Bool("json", false, "Print the objects of the API, one a line")
	cmd.Flags().String("sort", "created", "Order: created, label or last-used")
	cmd.Flags().String("unused-for", "", "Only keys that were not used for so long, such as 90d")
	return cmd
}

func list(cmd *cobra.Command, _ []string) (act, error) {
	sort, _ := cmd.Flags().GetString("sort")
	query, ok := orders[sort]
	if !ok {
		return nil, usagef("--sort: must be created, label or last-used, not %q", sort)
	}
	query.Limit = store.MaxLimit
	unused, _ := cmd.Flags().GetString("unused-for")
	var idle time.Duration
	if unused != "" {
		var err error
		if idle, err = caddy.ParseDuration(unused); err != nil || idle < 0 {
			return nil, usagef("--unused-for: not a duration, such as 90d: %q", unused)
		}
	}
	printer := newTable(cmd.OutOrStdout())
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		printer = newLines(cmd.OutOrStdout())
	}
	return func(cmd *cobra.Command, t *target) error {
		if unused != "" {
			query.UnusedSince = t.now().Add(-idle)
		}
		return printAll(cmd, t, &query, printer)
	}, nil
}

// printAll prints every page of a list.
func printAll(cmd *cobra.Command, t *target, query *store.KeyQuery, printer printer) error {
	service, err := t.service(cmd.Context())
	if err != nil {
		return err
	}
	for {
		page, err := service.List(cmd.Context(), admin.CLI(), query)
		if err != nil {
			return err
		}
		for i := range page.Keys {
			printer.print(&page.Keys[i])
		}
		if page.Next == nil {
			return printer.end(page.Total)
		}
		query.After = page.Next
	}
}

// printer prints keys one by one.
type printer struct {
	print func(k *store.Key)
	end   func(total int) error
}

func newLines(w io.Writer) printer {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	var err error
	return printer{
		print: func(k *store.Key) { err = errors.Join(err, encoder.Encode(admin.ShowKey(k))) },
		end:   func(int) error { return err },
	}
}

func newTable(w io.Writer) printer {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tLABEL\tPERMISSIONS\tCREATED\tLAST USED\tEXPIRES")
	return printer{
		print: func(k *store.Key) {
			permissions := strings.Join(k.Permissions, ",")
			if k.IsSystem {
				permissions = strings.TrimSuffix("system admin,"+permissions, ",")
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, printable(k.Label), printable(dash(permissions)),
				when(k.CreatedAt), when(k.LastUsedAt), when(k.ExpiresAt))
		},
		end: func(total int) error {
			fmt.Fprintf(table, "%d key(s)\n", total)
			return table.Flush()
		},
	}
}

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

func dash(s string) string {
	if s == "" {
		return "—"
	}
	return s
}

func when(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.Format(timeLayout)
}
