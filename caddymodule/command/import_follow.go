package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// tellFollowed says which table is followed. While one is, nothing else is imported: the keys
// that are gone from that table could not be told from the keys of another one.
func (i *importer) tellFollowed(cmd *cobra.Command) error {
	s, ok := i.target.(*postgres.Store)
	if !ok {
		return nil // ReadTable refuses --follow
	}
	followed, err := s.FollowedTable(cmd.Context())
	if err != nil || followed == nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), followedLine(followed))
	if !i.from.Follow && !i.dryRun {
		return fmt.Errorf("%s is followed: its changes come by themselves. For another table, end that by import --unfollow",
			printable(followed.Table))
	}
	return nil
}

// followedLine says in one line what is followed.
func followedLine(f *movein.Followed) string {
	line := fmt.Sprintf("Follows %s since %s: %d of its row(s) do not fit.", printable(f.Table), minuteOf(f.Since), f.Unfit)
	if !f.Carried {
		line += " Its triggers are missing or were disabled, so the keys that came from it are not accepted. Run import --follow again."
	}
	return line
}

// follow follows the table whose rows were looked at before. In a dry run it does so in a
// transaction that is rolled back, and finds out whether it may.
func (i *importer) follow(cmd *cobra.Command, t *target, layout movein.Layout) error {
	s, ok := i.target.(*postgres.Store)
	if !ok {
		return errors.New("import: only a store in PostgreSQL can follow a table")
	}
	if i.dryRun {
		if err := s.TryToFollow(cmd.Context(), layout, i.relabel); err != nil {
			return fmt.Errorf("import: %w", err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Would put four triggers on %s, and then import %d row(s). Nothing was written.\n",
			printable(layout.Table), i.totals.Fit)
		return nil
	}
	added, err := s.FollowTable(cmd.Context(), layout, i.relabel, func(rows int) {
		i.progress.show(fmt.Sprintf("%d row(s) carried over", rows))
	})
	i.progress.clear()
	if err != nil {
		return fmt.Errorf("import (run it again to go on): %w", err)
	}
	tellImported(cmd, t, added)
	followed, err := s.FollowedTable(cmd.Context())
	if err == nil && followed != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), followedLine(followed))
	}
	return err
}

// unfollow ends what --follow has begun.
func unfollow(cmd *cobra.Command, t *target) error {
	s, ok := t.store.(*postgres.Store)
	if !ok {
		return errors.New("only a store in PostgreSQL can follow a table")
	}
	table, err := s.UnfollowTable(cmd.Context())
	switch {
	case err != nil:
		return err
	case table == "":
		fmt.Fprintln(cmd.ErrOrStderr(), "No table is followed.")
	default:
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is not followed any more. The keys that came from it stay.\n", printable(table))
	}
	return nil
}
