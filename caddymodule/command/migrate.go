package command

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

// migrateCommand has two jobs: with --from and --to it moves a store, and otherwise it brings
// the schema of the store up to date.
//
// Standard output stays empty. Standard error says how far a long migration is, and what was
// moved.
func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate [--from DSN --to DSN]",
		Short: "Brings the store's schema up to date, or moves all keys to another store",
		Long: `
Brings the schema up to date. Servers do this themselves when they start. Run it
before, with a role that may change the schema, if theirs may not. Any number may
run at the same time.

With --from and --to it copies everything that has to last from one store to
another, SQLite or PostgreSQL: the mint key, all keys with what is known of them,
and the audit log with its chains, which verify under the same secret as before.
Every key works on the new store as it did on the old one. Sessions of the System
page are not taken along.

It is one transaction: after an error the new store has nothing. The old one is
read as it is at one moment, and not changed; what is revoked there later is live
in the new one. So stop the servers on the old store first, and start them on the
new one when it is done. The new store must have no keys, no audit records and no
servers, since keys that were minted under another mint key would end; its schema
is made if need be. The old one's must be up to date.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().String("from", "", "The store to move from: sqlite:///file.db or postgres://…")
	cmd.Flags().String("to", "", "The store to move to, which must be empty")
	cmd.Flags().String("from-schema", "", "The schema of the PostgreSQL store that --from names, if it has one of its own")
	cmd.Flags().String("to-schema", "", "The same for --to")
	// The action has nothing left to do. It is there so that the flags for the store work as
	// everywhere.
	upToDate := onStore(func(*cobra.Command, []string) (action, error) {
		return func(cmd *cobra.Command, _ *target) error {
			// Opening the store for a command migrates it.
			fmt.Fprintln(cmd.ErrOrStderr(), "The schema is up to date.")
			return nil
		}, nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if slices.ContainsFunc([]string{"from", "to", "from-schema", "to-schema"}, cmd.Flags().Changed) {
			return moveKeys(cmd)
		}
		return upToDate(cmd, args)
	}
	return cmd
}

// moveKeys runs `migrate --from … --to …`. It checks all that can be checked before it writes,
// and warns of servers on the old store. It does not refuse to run beside them: a server that
// was killed stays in the list until another one removes it.
//
// If it is interrupted, the transaction is not committed, and the new store stays empty. Its
// schema, and a file of SQLite, are left, and do not hinder the next attempt.
func moveKeys(cmd *cobra.Command) (err error) {
	source, destination, err := readEnds(cmd)
	if err != nil {
		return err
	}
	from, err := source.Open(cmd.Context(), openOptions(cmd, false))
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	// Check the source before a file is created for the destination.
	progress, err := from.Progress(cmd.Context(), nil, nil)
	if err != nil {
		return fmt.Errorf("--from: %w (its schema must be up to date: see caddy system-keys migrate --store)", err)
	}
	if n := len(progress.Members); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %d server(s) run on the old store, or have not signed off. "+
			"What they do from now on does not get into the new one, revocations included.\n", n)
	}
	to, err := openMigrated(cmd, destination, true, true)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	count, err := copyStore(cmd.Context(), from, to)
	if errors.Is(err, store.ErrOccupied) {
		return fmt.Errorf("--to: %w; nothing was changed", err)
	}
	if err != nil {
		// If the answer to the commit was lost, nobody knows whether it took effect.
		return fmt.Errorf("move (the new store has all of it or nothing): %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Moved %d key(s) and %d audit record(s). The old store is as it was.\n", count.keys, count.records)
	return nil
}

// readEnds reads --from and --to. The stores are named in full, and no configuration is read:
// the server of a configuration has one store, and a move has two. That the same database has
// two spellings is found later, since the new store must be empty.
func readEnds(cmd *cobra.Command) (from, to open.Location, err error) {
	for _, flag := range []string{"store", "schema", "config", "adapter"} {
		if cmd.Flags().Changed(flag) {
			return from, to, Usagef("--%s does not go with --from and --to, which name both stores", flag)
		}
	}
	for _, end := range []struct {
		flag string
		into *open.Location
	}{{"from", &from}, {"to", &to}} {
		if !cmd.Flags().Changed(end.flag) {
			return from, to, Usagef("--from and --to are both required")
		}
		if *end.into, err = locateFlags(cmd, end.flag, end.flag+"-schema"); err != nil {
			return from, to, err
		}
	}
	if from == to {
		return from, to, Usagef("--from and --to are the same store")
	}
	return from, to, nil
}

// copyStore copies one store into another, and counts keys and audit records. One batch at a
// time is in memory.
func copyStore(ctx context.Context, from, to store.Store) (*counter, error) {
	var count counter
	err := to.Import(ctx, func(r store.Recipient) error {
		count.Recipient = r
		return from.Export(ctx, &count)
	})
	return &count, err
}

// counter counts keys and audit records on their way to another recipient. What it does not
// count, it passes on by embedding.
type counter struct {
	store.Recipient
	keys, records int
}

// Keys implements [store.Recipient].
func (c *counter) Keys(ctx context.Context, keys []store.Key) error {
	c.keys += len(keys)
	return c.Recipient.Keys(ctx, keys)
}

// Records implements [store.Recipient].
func (c *counter) Records(ctx context.Context, records []store.AuditRecord) error {
	c.records += len(records)
	return c.Recipient.Records(ctx, records)
}
