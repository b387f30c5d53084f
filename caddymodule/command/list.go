package command

import (
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// sortOrders are the values of --sort. Keys that need attention come first.
var sortOrders = map[string]store.KeyQuery{
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

// readList reads and checks the flags.
func readList(cmd *cobra.Command, _ []string) (action, error) {
	sort, _ := cmd.Flags().GetString("sort")
	query, ok := sortOrders[sort]
	if !ok {
		return nil, Usagef("--sort: must be created, label or last-used, not %q", sort)
	}
	query.Limit = store.MaxLimit
	unusedFor, err := durationFlag(cmd, "unused-for", 0, "not a duration, such as 90d")
	if err != nil {
		return nil, err
	}
	p := keyTable(cmd.OutOrStdout())
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		p = jsonLines(cmd.OutOrStdout(), admin.ShowKey)
	}
	return func(cmd *cobra.Command, t *target) error {
		if cmd.Flags().Changed("unused-for") {
			query.UnusedSince = t.now().Add(-unusedFor)
		}
		return printKeys(cmd, t, &query, p)
	}, nil
}

// printKeys prints every page.
func printKeys(cmd *cobra.Command, t *target, query *store.KeyQuery, p printer[store.Key]) error {
	service := t.service()
	for {
		page, err := service.List(cmd.Context(), admin.CLI(), query)
		if err != nil {
			return err
		}
		for i := range page.Keys {
			if err := p.print(&page.Keys[i]); err != nil {
				return err
			}
		}
		if page.Next == nil {
			return p.end(page.Total)
		}
		query.After = page.Next
	}
}
