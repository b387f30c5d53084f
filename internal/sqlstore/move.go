package sqlstore

import (
	"context"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// moveBatch is how many rows are read at a time. A row of the audit log may have several records.
const moveBatch = 500

// Source reads a store in the transaction of an export, which sees one moment. Keys have
// their hashes. Rows are in the order of their ids. The id of a row of several records is that of
// the newest, so records of different rows may not be in that order.
type Source interface {
	MintKey(ctx context.Context) (store.MintKey, error)
	// Keys and Records read the rows behind an id, limit at most. A row may have several records.
	// No result means that there are no more rows.
	Keys(ctx context.Context, after store.ID, limit int) ([]store.Key, error)
	// Chains are few, and come at once.
	Chains(ctx context.Context) ([]store.AuditChain, error)
	Records(ctx context.Context, after store.ID, limit int) ([]store.AuditRecord, error)
}

// Export hands everything in a source to the recipient. Read runs its argument in a transaction,
// and puts an error in the words of the driver. An error of the recipient is returned as it is.
// The order is the mint key, the keys, the chains, and the records.
func Export(ctx context.Context, to store.Recipient, read func(do func(from Source) error) error) error {
	e := &export{to: to}
	err := read(func(from Source) error { return e.run(ctx, from) })
	if e.recipientErr != nil {
		return e.recipientErr
	}
	return err
}

// export is one call of [Export]. RecipientErr is the last error of the recipient, if any.
type export struct {
	to           store.Recipient
	recipientErr error
}

// run hands over what it reads, as long as there is no error.
func (e *export) run(ctx context.Context, from Source) error {
	key, err := from.MintKey(ctx)
	if err != nil {
		return err
	}
	if err := e.noteRecipientErr(e.to.MintKey(ctx, key)); err != nil {
		return err
	}
	err = inBatches(ctx, from.Keys, func(keys []store.Key) (store.ID, error) {
		return keys[len(keys)-1].ID, e.noteRecipientErr(e.to.Keys(ctx, keys))
	})
	if err != nil {
		return err
	}
	chains, err := from.Chains(ctx)
	if err != nil {
		return err
	}
	if err := e.noteRecipientErr(e.to.Chains(ctx, chains)); err != nil {
		return err
	}
	return inBatches(ctx, from.Records, func(records []store.AuditRecord) (store.ID, error) {
		return records[len(records)-1].ID, e.noteRecipientErr(e.to.Records(ctx, records))
	})
}

// noteRecipientErr keeps an error of the recipient apart from errors of the source.
func (e *export) noteRecipientErr(err error) error {
	e.recipientErr = err
	return err
}

// inBatches reads all rows in batches and calls handOver for each batch. HandOver returns the id
// of the last row. The next batch begins behind that id. A batch without rows is the end.
func inBatches[Row any](
	ctx context.Context, read func(ctx context.Context, after store.ID, limit int) ([]Row, error),
	handOver func(batch []Row) (last store.ID, err error),
) error {
	for after := (store.ID{}); ; {
		batch, err := read(ctx, after, moveBatch)
		if err != nil || len(batch) == 0 {
			return err
		}
		if after, err = handOver(batch); err != nil {
			return err
		}
	}
}

// Import calls fill with a recipient. Write runs its argument in a transaction of the recipient,
// and puts an error in the words of the driver. An error of fill is returned as it is. Fill runs
// within the transaction, which its error rolls back.
func Import(fill func(to store.Recipient) error, write func(do func(to store.Recipient) error) error) error {
	var fillErr error
	err := write(func(to store.Recipient) error {
		fillErr = fill(to)
		return fillErr
	})
	if fillErr != nil {
		return fillErr
	}
	return err
}

// AddKeys is [Import] for keys alone.
func AddKeys(
	ctx context.Context, fill func(add func(keys []store.Key) error) error, write func(do func(to store.Recipient) error) error,
) error {
	return Import(func(to store.Recipient) error {
		return fill(func(keys []store.Key) error { return to.Keys(ctx, keys) })
	}, write)
}

// Unoccupied returns [store.ErrOccupied] if a table has rows that cannot be joined with the rows
// of another store. Keys is the table system_keys, and schema the prefix of all others. Occupied
// reports whether a table has a row. The error names what was found.
func Unoccupied(keys, schema string, occupied func(table string) (bool, error)) error {
	for _, c := range []struct{ table, what string }{
		{keys, "keys"},
		{schema + "audit_log", "audit records"},
		{schema + "audit_chain", "chains of audit records"},
		{schema + "member", "servers that run on it, or have not signed off"},
	} {
		has, err := occupied(c.table)
		if err != nil {
			return err
		}
		if has {
			return fmt.Errorf("%w: it has %s", store.ErrOccupied, c.what)
		}
	}
	return nil
}
