package command

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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
		Args: cobra.NoArgs,
		RunE: onStore(readList),
	}
	cmd.Flags().Bool("json", false, "Print the objects of the API, one a line")
	cmd.Flags().String("sort", "created", "Order: created, label or last-used")
	cmd.Flags().String("unused-for", "", "Only keys that were not used for so long, such as 90d")
	return cmd
}

// readList reads the flags.
func readList(cmd *cobra.Command, _ []string) (action, error) {
	sort, _ := cmd.Flags().GetString("sort")
	query, ok := orders[sort]
	if !ok {
		return nil, Usagef("--sort: must be created, label or last-used, not %q", sort)
	}
	query.Limit = store.MaxLimit
	unused, _ := cmd.Flags().GetString("unused-for")
	var idle time.Duration
	if unused != "" {
		var err error
		if idle, err = caddy.ParseDuration(unused); err != nil || idle < 0 {
			return nil, Usagef("--unused-for: not a duration, such as 90d: %q", unused)
		}
	}
	printer := keyTable(cmd.OutOrStdout())
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		printer = keyLines(cmd.OutOrStdout())
	}
	return func(cmd *cobra.Command, t *target) error {
		if unused != "" {
			query.UnusedSince = t.now().Add(-idle)
		}
		return printKeys(cmd, t, &query, printer)
	}, nil
}

// printKeys prints every page.
func printKeys(cmd *cobra.Command, t *target, query *store.KeyQuery, printer keyPrinter) error {
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
