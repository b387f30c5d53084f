package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// importer takes the rows of the other table to the store, batch by batch. Each row is judged by
// package movein, then compared with the store. It serves one call.
//
// From says what is read, and target where it goes. DryRun looks only, relabel repairs labels,
// and skip leaves out the rows that do not fit. Add stores keys in the transaction that is open.
// Batch has the rows that were read and not judged yet.
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

// importRow is a row and what it becomes. The key counts only if there are no problems.
type importRow struct {
	row      movein.Row
	key      store.Key
	problems []movein.Problem
}

// errUnfit ends the transaction if there are rows that do not fit. It is no failure to read, so
// the totals are printed all the same.
var errUnfit = errors.New("there are rows that do not fit")

// run reads the whole table once. A plain import does so inside of the transaction in which it
// writes, which is committed only if the rows fit, or --skip leaves out those that do not. A dry
// run, and the first look of --follow, read without a transaction of the store.
//
// With --follow the triggers come after the look. A table with rows that do not fit gets none,
// unless --skip leaves those out.
func (i *importer) run(cmd *cobra.Command, t *target, source *postgres.Store) error {
	ctx := cmd.Context()
	// The stores keep microseconds.
	i.target, i.now = t.store, t.now().UTC().Truncate(time.Microsecond)
	i.totals.Problems = make(map[string]int)
	i.progress = newProgressLine(cmd.ErrOrStderr(), t.now)
	// ReadTable refuses to read the table in which this store keeps its keys.
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
	// The rows of a table that is to be followed are written later, by FollowTable.
	if i.dryRun || i.from.Follow {
		err = read(nil)
	} else {
		err = i.target.AddKeys(ctx, read)
	}
	i.progress.clear()
	var unreported error
	// After any other error the totals are of a part of the table, and would mislead.
	if err == nil || errors.Is(err, errUnfit) {
		if unreported = i.report.end(&i.totals); unreported != nil {
			unreported = fmt.Errorf("the report could not be written: %w", unreported)
		}
	}
	if err == nil && i.from.Follow {
		// Nothing was written yet, and nobody has seen what would be.
		if unreported != nil {
			return unreported
		}
		return i.follow(cmd, t, layout)
	}
	// What was imported stays so without the report.
	return errors.Join(i.conclude(cmd, t, err), unreported)
}

// conclude says what was done. An error says whether something may have been imported, since
// that is what the operator has to know before the next try.
//
// A conflict means that somebody has written one of the ids between the look and the insert.
// Nothing is merged: the operator runs the command again, and sees what is there now.
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

// tellImported says how many keys there are now that were not there before, and what is left to
// do so that they work. With --store nobody knows the setting.
func tellImported(cmd *cobra.Command, t *target, n int) {
	fmt.Fprintf(cmd.ErrOrStderr(), "Imported %d key(s).\n", n)
	if t.app != nil && !t.app.AdoptKeys {
		fmt.Fprintln(cmd.ErrOrStderr(), "Servers accept them when the configuration has adopt_keys on.")
	}
}

// read takes all rows through the importer. It goes on behind a row that does not fit: the
// operator wants the whole list, and not one row for each run.
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
// What was written before is undone with the transaction.
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
			// Only a key that is stored gets this time. Compare must see that the row had none.
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

// look finds out which of the rows that fit are in the store already, or were revoked there. A
// key that was revoked here does not come back by an import.
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

// repaired reports whether the label is not the one that the row has, blanks apart. Blanks
// around a label are trimmed from every label.
func (r *importRow) repaired() bool {
	clean, err := store.CleanLabel(r.row.Label)
	return err != nil || clean != r.key.Label
}

// follow follows the table whose rows were looked at before. In a dry run it does so in a
// transaction that is rolled back, and finds out whether it may. The triggers come first and the
// rows after them, so no change is missed between the two. After an interruption the triggers
// may be there, and some of the rows. The next run goes on.
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

// alreadyThere says of keys that fit which are there already, and why others cannot come: the
// problem is nil for the former. Other keys are not in the answer. If the table is followed, a
// key that came from it may differ: it is made like its row. A key that was minted here is never
// overwritten.
func alreadyThere(keys []store.Key, stored []store.Key, revoked []store.ID, followed bool) map[store.ID]*movein.Problem {
	found := make(map[store.ID]*movein.Problem)
	for _, id := range revoked {
		found[id] = &movein.Problem{Field: "id", Reason: "was revoked here"}
	}
	byID := make(map[store.ID]*store.Key, len(stored))
	for i := range stored {
		byID[stored[i].ID] = &stored[i]
	}
	for i := range keys {
		switch known := byID[keys[i].ID]; {
		case known == nil:
		case followed && known.Foreign && known.CreatedBy == movein.CreatedBy:
			found[known.ID] = nil
		default:
			found[known.ID] = movein.Compare(&keys[i], known)
		}
	}
	return found
}
