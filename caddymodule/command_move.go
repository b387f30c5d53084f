package caddymodule

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

// moveKeys is `migrate --from … --to …`.
func moveKeys(cmd *cobra.Command) (err error) {
	source, destination, err := ends(cmd)
	if err != nil {
		return err
	}
	from, err := source.Open(cmd.Context(), openOptions(cmd, false))
	if err != nil {
		return fmt.Errorf("--from: open store: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	// Whatever is wrong with the source is found before a file is made.
	progress, err := from.Progress(cmd.Context(), store.ID{})
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
	count, err := move(cmd.Context(), from, to)
	if errors.Is(err, store.ErrOccupied) {
		return fmt.Errorf("--to: %w; nothing was changed", err)
	}
	if err != nil {
		// If the answer to the commit was lost, nobody knows which.
		return fmt.Errorf("move (the new store has all of it or nothing): %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Moved %d key(s) and %d audit record(s). The old store is as it was.\n", count.keys, count.records)
	return nil
}

// ends reads --from and --to.
func ends(cmd *cobra.Command) (from, to open.Location, err error) {
	for _, flag := range []string{"store", "config", "adapter"} {
		if cmd.Flags().Changed(flag) {
			return from, to, usagef("--%s does not go with --from and --to, which name both stores", flag)
		}
	}
	for _, end := range []struct {
		flag string
		into *open.Location
	}{{"from", &from}, {"to", &to}} {
		if !cmd.Flags().Changed(end.flag) {
			return from, to, usagef("--from and --to are both required")
		}
		dsn, _ := cmd.Flags().GetString(end.flag)
		if *end.into, err = locateDSN("--"+end.flag, dsn); err != nil {
			return from, to, err
		}
	}
	if from == to {
		return from, to, usagef("--from and --to are the same store")
	}
	return from, to, nil
}

// move copies one store into another, and says how much that was.
func move(ctx context.Context, from, to store.Store) (*counter, error) {
	var count counter
	err := to.Import(ctx, func(r store.Recipient) error {
		count.Recipient = r
		return from.Export(ctx, &count)
	})
	return &count, err
}

// counter counts what passes through to another recipient.
type counter struct {
	store.Recipient
	keys, records int
}

func (c *counter) Keys(ctx context.Context, keys []store.Key) error {
	c.keys += len(keys)
	return c.Recipient.Keys(ctx, keys)
}

func (c *counter) Records(ctx context.Context, records []store.AuditRecord) error {
	c.records += len(records)
	return c.Recipient.Records(ctx, records)
}
