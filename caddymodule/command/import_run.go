package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// importBatch is how many rows are compared with the store, and written, at a time.
const importBatch = 500

// importer takes the rows of the other table to the store, batch by batch.
type importer struct {
	from                  *movein.Source
	dryRun, relabel, skip bool
	report                importPrinter
	progress              *progressLine

	target store.Store
	add    func(keys []store.Key) error // nil if rows are only looked at
	now    time.Time                    // when keys were created of which nobody says so

	batch  []importRow
	totals importTotals
}

// importRow is a row and what it becomes.
type importRow struct {
	row      movein.Row
	key      store.Key
	problems []movein.Problem
}

// errUnfit ends the transaction if there are rows that do not fit.
var errUnfit = errors.New("there are rows that do not fit")

func (i *importer) run(cmd *cobra.Command, t *target, source *postgres.Store) error {
	ctx := cmd.Context()
	i.target, i.now = t.store, t.now().UTC().Truncate(time.Microsecond)
	i.totals.Problems = make(map[string]int)
	i.progress = newProgressLine(cmd.ErrOrStderr(), t.now)
	i.from.Target = t.store
	var layout movein.Layout
	i.from.Found = func(found movein.Layout) {
		layout = found
		printLayout(cmd, layout)
	}
	if err := i.tellFollowed(cmd); err != nil {
		return err
	}
	read := func(add func(keys []store.Key) error) error {
		i.add = add
		return i.read(ctx, source)
	}
	var err error
	if i.dryRun || i.from.Follow {
		err = read(nil)
	} else {
		err = i.target.AddKeys(ctx, read)
	}
	i.progress.clear()
	if err == nil || errors.Is(err, errUnfit) {
		err = errors.Join(err, i.report.end(&i.totals))
	}
	if err == nil && i.from.Follow {
		return i.follow(cmd, t, layout)
	}
	return i.conclude(cmd, t, err)
}

// conclude says what was done.
func (i *importer) conclude(cmd *cobra.Command, t *target, err error) error {
	switch {
	case errors.Is(err, errUnfit):
		return fmt.Errorf("%d row(s) do not fit, so nothing was imported: repair them, or use --relabel for the labels and --skip for the rest",
			i.totals.Unfit)
	case errors.Is(err, store.ErrConflict):
		return errors.New("somebody has written a key with one of these ids meanwhile, so nothing was imported: run it again")
	case err != nil && i.dryRun:
		return fmt.Errorf("import: %w", err)
	case err != nil:
		// If the answer to the commit was lost, nobody knows whether it took effect.
		return fmt.Errorf("import (all of it or nothing): %w", err)
	case i.dryRun:
		fmt.Fprintln(cmd.ErrOrStderr(), "Nothing was written.")
		return nil
	}
	tellImported(cmd, t, i.totals.Fit)
	return nil
}

func tellImported(cmd *cobra.Command, t *target, n int) {
	fmt.Fprintf(cmd.ErrOrStderr(), "Imported %d key(s).\n", n)
	if t.app != nil && !t.app.AdoptKeys {
		fmt.Fprintln(cmd.ErrOrStderr(), "Servers accept them when the configuration has adopt_keys on.")
	}
}

// read takes all rows through the importer.
func (i *importer) read(ctx context.Context, source *postgres.Store) error {
	err := source.ReadTable(ctx, i.from, func(row *movein.Row) error {
		key, problems := row.Key(i.relabel)
		if i.batch = append(i.batch, importRow{*row, key, problems}); len(i.batch) == importBatch {
			return i.flush(ctx)
		}
		return nil
	})
	if err == nil {
		err = i.flush(ctx)
	}
	if err == nil && i.stopped() {
		err = errUnfit
	}
	return err
}

// stopped reports whether nothing is written any more. The rest of the rows is still judged.
func (i *importer) stopped() bool { return !i.dryRun && !i.skip && i.totals.Unfit > 0 }

// flush compares the rows of a batch with the store, prints those that do not fit, and
// writes the others.
func (i *importer) flush(ctx context.Context) error {
	there, err := i.look(ctx)
	if err != nil {
		return err
	}
	var keys []store.Key
	for k := range i.batch {
		r := &i.batch[k]
		problem, known := there[r.key.ID]
		if known && problem != nil && len(r.problems) == 0 {
			r.problems = append(r.problems, *problem)
		}
		i.totals.Rows++
		switch {
		case len(r.problems) > 0:
			i.totals.count(r.problems)
			i.progress.clear()
			if err := i.report.print(showUnfit(&r.row, r.problems)); err != nil {
				return err
			}
		case known:
			i.totals.There++
		default:
			i.totals.Fit++
			if r.repaired() {
				i.totals.Relabelled++
			}
			if r.key.CreatedAt.IsZero() {
				r.key.CreatedAt = i.now
			}
			keys = append(keys, r.key)
		}
	}
	i.batch = i.batch[:0]
	i.progress.show(fmt.Sprintf("%d row(s)", i.totals.Rows))
	if i.add == nil || i.stopped() || len(keys) == 0 {
		return nil
	}
	return i.add(keys)
}

// look finds out which of the rows that fit are in the store already.
func (i *importer) look(ctx context.Context) (map[store.ID]*movein.Problem, error) {
	var keys []store.Key
	var ids []store.ID
	for k := range i.batch {
		if r := &i.batch[k]; len(r.problems) == 0 {
			keys, ids = append(keys, r.key), append(ids, r.key.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	stored, revoked, err := i.target.KnownKeys(ctx, ids)
	if err != nil {
		return nil, err
	}
	return alreadyThere(keys, stored, revoked, i.from.Follow), nil
}

// repaired reports whether the label is not the one that the row has, blanks apart.
func (r *importRow) repaired() bool {
	clean, err := store.CleanLabel(r.row.Label)
	return err != nil || clean != r.key.Label
}

// importPrinter prints the rows that do not fit, and the totals at the end.
type importPrinter struct {
	print func(row *unfitRow) error
	end   func(totals *importTotals) error
}

func importReport(cmd *cobra.Command) importPrinter {
	out := cmd.OutOrStdout()
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := newEncoder(out)
		return importPrinter{
			print: func(row *unfitRow) error { return encoder.Encode(row) },
			end:   func(totals *importTotals) error { return encoder.Encode(totals) },
		}
	}
	return importTable(out)
}

// importTable prints a table for people.
func importTable(w io.Writer) importPrinter {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	n := 0
	return importPrinter{
		print: func(row *unfitRow) error {
			if n == 0 {
				fmt.Fprintln(table, "ID\tLABEL\tWHY IT DOES NOT FIT")
			}
			if n++; n%importBatch == 0 { // do not hold a table of a million lines in memory
				if err := table.Flush(); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(table, "%s\t%s\t%s\n", printable(orDash(row.ID)), printable(orDash(row.Label)), printable(row.reasons()))
			return err
		},
		end: func(totals *importTotals) error {
			fmt.Fprintln(table, totals)
			return table.Flush()
		},
	}
}
