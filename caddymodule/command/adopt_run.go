package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// adopter matches keys with rows, and enters them as a server does that has found one. It runs
// beside servers: an entry that one of them makes meanwhile is as good. If it is interrupted,
// what is entered stays, and the next run finds it.
//
// Secrets has the first secret alone, so a key that was entered under an older one is entered
// anew. Ask shows a text and reports whether to go on. Total and memory are in KiB, as the
// parameters of hashes are.
type adopter struct {
	store   store.Store
	minter  *token.Minter
	secrets [][]byte // the first one, which names new entries
	now     func() time.Time
	ask     func(text string) bool

	out      io.Writer // for notes
	progress *progressLine

	total  int64 // the memory of all hashes at once, in KiB
	memory *semaphore.Weighted
}

// hashMemoryUnit is the unit of the memory in phc.Params: KiB.
const hashMemoryUnit = 1024

// newAdopter needs the secret of the configuration: the digest of an entry is made with it. An
// entry under a secret that the servers do not have would help none of them.
//
// Hashes get the memory that a server has for them, hash_memory. A server on the same machine
// may need its own share at the same time.
func newAdopter(cmd *cobra.Command, t *target) (*adopter, error) {
	secrets, err := t.secrets()
	if err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		return nil, errors.New("the configuration has no secret: keys are entered under a digest with it")
	}
	minter, err := t.minter(cmd.Context())
	if err != nil {
		return nil, err
	}
	total := t.app.HashMemory / hashMemoryUnit
	return &adopter{
		store: t.store, minter: minter, secrets: secrets[:1], now: t.now,
		out: cmd.ErrOrStderr(), progress: newProgressLine(cmd.ErrOrStderr(), t.now),
		total: total, memory: semaphore.NewWeighted(total),
	}, nil
}

// run adopts the lines and prints what became of each, in their order. Lines with an id come
// first, since the rows that they are found for need not be searched.
//
// The results are printed at the end. After an error of the store nothing is printed, but what
// was entered stays. A line that was not adopted is an error too, after all results are printed:
// the status says whether servers find all keys.
func (a *adopter) run(cmd *cobra.Command, lines []keyLine, p printer[adoptedLine]) error {
	ctx := cmd.Context()
	results := make([]adoptedLine, len(lines))
	var searched []int
	for i := range lines {
		done, err := a.direct(ctx, &lines[i], &results[i])
		if err != nil {
			return fmt.Errorf("line %d: %w", lines[i].number, err)
		}
		if !done {
			searched = append(searched, i)
		}
	}
	if len(searched) > 0 {
		if err := a.search(ctx, lines, searched, results); err != nil {
			return err
		}
	}
	failed := 0
	for i := range results {
		if !results[i].good() {
			failed++
		}
		if err := p.print(&results[i]); err != nil {
			return err
		}
	}
	if err := p.end(len(results)); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d line(s) were not adopted", failed, len(results))
	}
	return nil
}

// direct does all that takes no search. It reports whether the result is known. A key that was
// entered before needs no search, unless the entry turns out to be wrong. A key that this store
// has minted names its row by itself, and is never entered.
func (a *adopter) direct(ctx context.Context, line *keyLine, result *adoptedLine) (done bool, err error) {
	result.Line = line.number
	switch {
	case line.key == "":
		result.Result = resultMalformed
		return true, nil
	case a.minter.Minted(line.key):
		result.Result = resultMinted
		return true, nil
	}
	entered, err := a.store.Adopted(ctx, token.ForeignDigests(a.secrets, line.key))
	switch {
	case err == nil:
		// An entry is a hint that others may have forged, so the row decides here too.
		if err := a.enter(ctx, entered.ID, line.key, result); err != nil {
			return false, err
		}
		if result.Result == resultAdopted {
			result.Result = resultBefore
		}
		if result.Result != resultOther && (line.id == (store.ID{}) || line.id == entered.ID) {
			return true, nil
		}
	case !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	if line.id == (store.ID{}) {
		return false, nil
	}
	return true, a.enter(ctx, line.id, line.key, result)
}

// enter verifies the key against a row, and enters it if it is the row's. It writes what it has
// found to the result. The error is one of the store: a row that does not fit is no error.
//
// The hash is computed last, since it takes the longest. Only a hash that matches is entered,
// whatever id the line has.
func (a *adopter) enter(ctx context.Context, id store.ID, key string, result *adoptedLine) error {
	result.ID, result.Label = id.String(), ""
	row, err := a.store.Key(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		result.Result = resultNoRow
		return nil
	}
	if err != nil {
		return err
	}
	result.Label = row.Label
	switch {
	case !row.Foreign:
		result.Result = resultMinted
		return nil
	case row.Expired(a.now()):
		result.Result = resultExpired
		return nil
	}
	hashed, err := phc.Parse(string(row.Hash))
	if err != nil {
		result.Result = resultUnusable
		return nil
	}
	if !a.fitsMemory(hashed) {
		result.Result = resultTooLarge
		return nil
	}
	if matches, err := a.verify(ctx, hashed, key); err != nil || !matches {
		result.Result = resultOther
		return err
	}
	return a.adopt(ctx, store.Candidate{ID: id, Hash: row.Hash}, key, result)
}

// adopt makes the entry by which every server finds the row. It names the hash that the key was
// verified against. If the row has another hash by now, the store refuses the entry.
func (a *adopter) adopt(ctx context.Context, row store.Candidate, key string, result *adoptedLine) error {
	err := a.store.Adopt(ctx, &store.AdoptedKey{
		Digest: token.ForeignDigests(a.secrets, key)[0], Era: token.ForeignEras(a.secrets)[0], Key: row.ID, Hash: row.Hash,
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		result.Result = resultNoRow
	case errors.Is(err, store.ErrConflict):
		result.Result = resultChanged
	case err != nil:
		return err
	default:
		result.Result = resultAdopted
	}
	return nil
}

// fitsMemory reports whether the hash can be computed at all. A semaphore would wait for ever
// for more than it has.
func (a *adopter) fitsMemory(hashed *phc.Hashed) bool {
	return int64(hashed.Params().Memory) <= a.total
}

// verify waits until the memory of the hash is free. The hash must fit: see
// [adopter.fitsMemory]. It is safe for concurrent use. The error is that of ctx.
func (a *adopter) verify(ctx context.Context, hashed *phc.Hashed, key string) (bool, error) {
	memory := int64(hashed.Params().Memory)
	if err := a.memory.Acquire(ctx, memory); err != nil {
		return false, err
	}
	defer a.memory.Release(memory)
	return hashed.Verify(key), nil
}

// candidate is a row that no key was found for, with its hash as it was read once for all keys.
type candidate struct {
	store.Candidate

	hashed *phc.Hashed
}

// search tries the keys of these lines against every candidate. Searched has their places in
// lines and results. The keys come one after the other, and the rows of each at the same time. A
// row that is found is not tried again, since no two keys have one row.
//
// It takes keys times rows, so it asks before it begins. Without a yes the lines have the result
// "not searched for".
func (a *adopter) search(ctx context.Context, lines []keyLine, searched []int, results []adoptedLine) error {
	rows, total, err := a.store.Unadopted(ctx, token.ForeignEras(a.secrets), a.now(), store.MaxUnadopted)
	if err != nil {
		return err
	}
	if total == store.MaxUnadopted {
		fmt.Fprintf(a.out, "There are more rows than are searched. Only the oldest %d are tried: adopt keys with ids first.\n", len(rows))
	}
	var candidates []candidate
	unusable := 0
	for _, row := range rows {
		hashed, err := phc.Parse(string(row.Hash))
		if err != nil || !a.fitsMemory(hashed) {
			unusable++
			continue
		}
		candidates = append(candidates, candidate{row, hashed})
	}
	if unusable > 0 {
		fmt.Fprintf(a.out, "%d row(s) are not tried: their hashes cannot be used, or need more memory than hash_memory.\n", unusable)
	}
	if len(candidates) > 0 && !a.ask(a.estimate(len(searched), candidates)) {
		for _, i := range searched {
			results[i] = adoptedLine{Line: lines[i].number, Result: resultUnasked}
		}
		return nil
	}
	defer a.progress.clear()
	for n, i := range searched {
		a.progress.show(fmt.Sprintf("%d of %d key(s)", n, len(searched)))
		found, err := a.find(ctx, candidates, lines[i].key)
		if err != nil {
			return err
		}
		result := &results[i]
		if found < 0 {
			*result = adoptedLine{Line: lines[i].number, Result: resultNoRow}
			continue
		}
		// The row may have changed since the list was read, so it is read again.
		if err := a.enter(ctx, candidates[found].ID, lines[i].key, result); err != nil {
			return fmt.Errorf("line %d: %w", lines[i].number, err)
		}
		candidates = slices.Delete(candidates, found, found+1)
	}
	return nil
}

// find returns the index of the row of a key, or -1. Hashes run on all processors, as far as
// their memory allows. Once one has matched, at most one more is begun. Those that run are
// waited for, so that the next key finds the memory free.
func (a *adopter) find(ctx context.Context, candidates []candidate, key string) (int, error) {
	var found atomic.Int64
	found.Store(-1)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range candidates {
		if found.Load() >= 0 || ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			matches, err := a.verify(ctx, candidates[i].hashed, key)
			if matches {
				found.Store(int64(i))
			}
			return err
		})
	}
	err := group.Wait()
	return int(found.Load()), err
}

// estimate measures one hash, and takes all others to cost as much for their parameters: an
// iteration of Argon2id is a pass over the memory (RFC 9106 section 3.1). It takes the largest
// hash for the bound of how many run at a time.
func (a *adopter) estimate(keys int, candidates []candidate) string {
	work := func(c *candidate) float64 {
		p := c.hashed.Params()
		return float64(p.Memory) * float64(p.Iterations)
	}
	began := a.now()
	candidates[0].hashed.Verify("")
	unit := a.now().Sub(began)
	all, largest := 0.0, int64(0)
	for i := range candidates {
		all += work(&candidates[i])
		largest = max(largest, int64(candidates[i].hashed.Params().Memory))
	}
	workers := max(1, min(runtime.GOMAXPROCS(0), int(a.total/largest)))
	longest := float64(unit) * all / work(&candidates[0]) * float64(keys) / float64(workers)
	return estimate(keys, len(candidates), workers, unit, time.Duration(longest))
}

// estimate says in words how long a search takes at most. A match ends the search for its key,
// so a search for keys that are all there takes about half of that, or less. It never says less
// than a second.
func estimate(keys, rows, workers int, unit, longest time.Duration) string {
	return fmt.Sprintf("%d key(s) without an id are tried against %d row(s): up to %d hash(es), each some %s, %d at a time. That takes %s at most.",
		keys, rows, keys*rows, unit.Round(time.Millisecond), workers, cmp.Or(longest.Round(time.Second), time.Second))
}
