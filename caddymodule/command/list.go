package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// listCommand prints all keys that match, where the API has pages.
//
// Standard output has the table or the objects. A list without keys is no error.
func listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [--json] [--sort [-]created_at|label|last_used_at|expires_at] [--unused-for DURATION] [--expiring-within DURATION] [--expired] [--unused-permissions]",
		Short: "Lists the keys",
		Long: `
Prints a table, or with --json the objects of the API, one a line. --sort is that
of the API: a - in front means descending, and by default it is -created_at, the
newest key first. By last_used_at the key that is idle longest comes first, with
those never used before all others; by expires_at the one that expires next,
with those that never expire after all others. Keys that have expired are left
out without --expired. On a terminal long lists of permissions are cut, and columns
for which there is no room are left out; through a pipe the table has all.

With --unused-permissions only keys that hold permissions which nobody has asked
for, and those permissions in place of all. A key of which no permission was ever
asked is left out: nothing can be said of it.`,
		Args: cobra.NoArgs,
		RunE: onStore(readList),
	}
	cmd.Flags().Bool("json", false, "Print the objects of the API, one a line")
	cmd.Flags().String("sort", "-created_at", "Order: created_at, label, last_used_at or expires_at, with - in front for descending")
	cmd.Flags().String("unused-for", "", "Only keys that were not used for so long, such as 90d")
	cmd.Flags().String("expiring-within", "", "Only keys that expire within this time, such as 14d")
	cmd.Flags().Bool("expired", false, "Keys that have expired too")
	cmd.Flags().Bool("unused-permissions", false, "Only keys that hold permissions nobody asked for, with those")
	complete(cmd, "sort", sorts()...)
	return cmd
}

// readList reads and checks the flags. The order is read as the API reads it, so that both have
// the same words. The output is chosen before the store is opened.
func readList(cmd *cobra.Command, _ []string) (action, error) {
	sort, _ := cmd.Flags().GetString("sort")
	query := store.KeyQuery{Limit: store.MaxLimit}
	var err error
	if query.Sort, query.Desc, err = (admin.Parameters{"sort": sort}).Sort(); err != nil {
		return nil, Usagef("--%w, not %q", err, sort)
	}
	unusedFor, err := durationFlag(cmd, "unused-for", 0, "not a duration, such as 90d")
	if err != nil {
		return nil, err
	}
	expiringWithin, err := durationFlag(cmd, "expiring-within", time.Nanosecond, "not a duration above zero, such as 14d")
	if err != nil {
		return nil, err
	}
	unused, _ := cmd.Flags().GetBool("unused-permissions")
	p := keyTable(cmd.OutOrStdout(), terminalWidth(cmd.OutOrStdout()))
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		p = jsonLines(cmd.OutOrStdout(), admin.ShowKey)
	}
	return func(cmd *cobra.Command, t *target) error {
		if cmd.Flags().Changed("unused-for") {
			query.UnusedSince = t.now().Add(-unusedFor)
		}
		if expiringWithin > 0 {
			query.ExpiringBefore = t.now().Add(expiringWithin)
		}
		if expired, _ := cmd.Flags().GetBool("expired"); !expired {
			query.LiveAt = t.now()
		}
		return printKeys(cmd, t, &query, p, unused)
	}, nil
}

// unusedOf returns the keys that hold permissions nobody has asked of them, with those alone. It
// asks the store once for a whole page. After an error the keys mean nothing.
func unusedOf(ctx context.Context, s store.Store, keys []store.Key) (kept []store.Key, err error) {
	ids := make([]store.ID, 0, len(keys))
	for i := range keys {
		ids = append(ids, keys[i].ID)
	}
	asked, err := s.Asked(ctx, ids)
	for _, key := range keys {
		if key.Permissions = key.Unused(asked[key.ID]); len(key.Permissions) > 0 {
			kept = append(kept, key)
		}
	}
	return kept, err
}

// printKeys prints every page. Unused says that only keys with unused permissions count. The
// total is the one of the last page: keys come and go while the pages are read.
//
// It acts as the command line without a name, since reading leaves no record.
func printKeys(cmd *cobra.Command, t *target, query *store.KeyQuery, p printer[store.Key], unused bool) error {
	service, n := t.service(), 0
	for {
		page, err := service.List(cmd.Context(), admin.CLI(), query)
		if err != nil {
			return err
		}
		// The permissions that nobody asked for are not a part of the query, so each page is
		// sorted out here.
		if unused {
			if page.Keys, err = unusedOf(cmd.Context(), service.Store, page.Keys); err != nil {
				return err
			}
			n += len(page.Keys)
			// The store has counted the keys before they were sorted out.
			page.Total = n
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
