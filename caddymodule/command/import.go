package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// importCommand is for the move from another service with Argon2id hashes in PostgreSQL. The
// keys stay as they are, and their holders notice nothing.
//
// Standard output has the rows that do not fit, and the totals. Standard error says what is
// read, how far it is, and what was done. The status is 1 if rows do not fit, unless --skip or
// --dry-run says that this is fine. An interruption leaves nothing, but with --follow.
func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import --from DSN --table SCHEMA.TABLE [--map OURS=THEIRS,...]... [--follow]\n" +
			"      [--dry-run] [--relabel] [--skip] [--json]\n" +
			"  caddy system-keys import --unfollow",
		Short: "Takes over the keys of another service from its table",
		Long: `
Reads a table of a PostgreSQL database, and stores its keys beside those that are
there, with their ids and hashes. Servers accept them as long as adopt_keys is on.
It is one transaction: after an error nothing was imported. The other table is
only read, as it is at one moment. What its service changes or revokes later does
not get over, unless you use --follow.

Prints every row that does not fit, and why. If there are any, nothing is imported,
unless --relabel and --skip decide what becomes of them. A row that is there already
with the same contents is left as it is, so the command can be run again.

The columns are id, label, key_hash, permissions, created_at, last_used_at and
expires_at; the last three may be missing. --map says where they have other names:
its left sides are id, label, hash, permissions, created_at, last_used_at and
expires_at. Permissions are an array, JSON, or text with commas or blanks. A view
serves as a table, where rows are to be left out or changed on the way.

--follow is for the time in which both are in use. The table must be in the database
of the store. It gets triggers that carry every later change over, in the same
transaction: a DELETE there revokes the key here. Later rows that do not fit are
left out and counted. After an interruption run it again. --unfollow removes the
triggers; the keys stay.`,
		Example: `  caddy system-keys import --from '{env.OTHER_DSN}' --table public.system_keys --dry-run
  caddy system-keys import --from '{env.OTHER_DSN}' --table app.api_keys --map label=name,permissions=scopes
  caddy system-keys import --from '{env.DATABASE_URL}' --table public.system_keys --follow`,
		Args: cobra.NoArgs,
		RunE: onStore(readImport),
	}
	cmd.Flags().String("from", "", "The database to read: postgres://… (required)")
	cmd.Flags().String("table", "", "The table or view to read, with its schema (required)")
	cmd.Flags().StringSlice("map", nil, "Columns that have other names: hash=key_hash; repeat for more, or use commas")
	cmd.Flags().Bool("dry-run", false, "Only list the rows that do not fit; write nothing")
	cmd.Flags().Bool("relabel", false, "Repair labels: trim them, remove control characters, cut them to 100 characters, name the nameless")
	cmd.Flags().Bool("skip", false, "Leave out the rows that do not fit, and import the others")
	cmd.Flags().Bool("follow", false, "Carry the later changes of the table over, too")
	cmd.Flags().Bool("unfollow", false, "Remove the triggers of --follow, and import nothing")
	cmd.Flags().Bool("json", false, "Print an object for each row that does not fit, and one with the totals, one a line")
	return cmd
}

// readImport reads and checks the flags. The other database is opened only in the action, after
// the store: if the store is missing, nobody has touched the other service.
//
// Whether the table and its columns are there is known only when it is read. What is wrong then
// is an error with status 1.
func readImport(cmd *cobra.Command, _ []string) (action, error) {
	if end, _ := cmd.Flags().GetBool("unfollow"); end {
		for _, other := range []string{"from", "table", "map", "dry-run", "relabel", "skip", "follow", "json"} {
			if cmd.Flags().Changed(other) {
				return nil, Usagef("--unfollow goes without --%s", other)
			}
		}
		return unfollow, nil
	}
	// Only --unfollow does without them.
	for _, required := range []string{"from", "table"} {
		if !cmd.Flags().Changed(required) {
			return nil, Usagef("--%s is required", required)
		}
	}
	dsn, _ := cmd.Flags().GetString("from")
	// A schema is not asked for: --table has one, and the other database has no store of ours.
	location, err := locateDSN("--from", dsn)
	if err != nil {
		return nil, err
	}
	if location.Driver != open.Postgres {
		return nil, Usagef("--from: only a PostgreSQL database can be read (to move a store of ours: caddy system-keys migrate)")
	}
	from := &movein.Source{}
	from.Table, _ = cmd.Flags().GetString("table")
	pairs, _ := cmd.Flags().GetStringSlice("map")
	mapped, err := readMap(pairs)
	if err == nil {
		from.Columns, err = movein.Columns(mapped)
	}
	if err != nil {
		return nil, Usagef("--map: %w", err)
	}
	i := &importer{from: from, report: importReport(cmd)}
	i.dryRun, _ = cmd.Flags().GetBool("dry-run")
	i.relabel, _ = cmd.Flags().GetBool("relabel")
	i.skip, _ = cmd.Flags().GetBool("skip")
	from.Follow, _ = cmd.Flags().GetBool("follow")
	return func(cmd *cobra.Command, t *target) (err error) {
		source, err := postgres.Open(cmd.Context(), location.Name, postgres.Options{})
		if err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		return i.run(cmd, t, source)
	}, nil
}

// readMap reads pairs such as hash=key_hash. Our name comes first. An unknown one is found by
// [movein.Columns].
func readMap(pairs []string) (map[string]string, error) {
	mapped := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		ours, theirs, found := strings.Cut(pair, "=")
		if !found || ours == "" || theirs == "" {
			return nil, fmt.Errorf("%q is not of the form hash=key_hash", pair)
		}
		if _, twice := mapped[ours]; twice {
			return nil, fmt.Errorf("%q is there twice", ours)
		}
		mapped[ours] = theirs
	}
	return mapped, nil
}

// unfollow ends what --follow has begun. To end it twice is no error, so a script can be run
// again.
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
