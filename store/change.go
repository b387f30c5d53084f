package store

import "time"

// Position names a place in a store's change log.
type Position struct {
	// Rev grows in the order in which changes are committed: whoever sees one
	// sees all before it. It starts at 1; 0 is before the log.
	Rev int64
	// Tag is random. The two together name a place in this history: a backup
	// that was restored, or a standby that was promoted and had missed commits,
	// may give the same rev again, but not with the same tag.
	Tag int64
}

// ChangeKind says what happened to a key.
type ChangeKind byte

// The kinds of changes. What they are in the log is part of the schema.
const (
	// KeyDeleted is a row that is gone, also one that was not there when it was to be
	// deleted.
	KeyDeleted ChangeKind = 'd'
	// KeyChanged is a row whose label, permissions, is_system or expiry is
	// another. A last use is no change.
	KeyChanged ChangeKind = 'u'
	// KeyRekeyed is a row whose hash is another, by any other way than
	// [Store.RehashKey], and possibly more of it: it may belong to another key now.
	KeyRekeyed ChangeKind = 'k'
	// KeyRehashed is a row whose hash was replaced by [Store.RehashKey], and
	// nothing else of it: it belongs to the same key as before.
	KeyRehashed ChangeKind = 'h'
	// AllChanged is a change of any number of rows, such as TRUNCATE.
	AllChanged ChangeKind = 'f'
	// KeysInserted is a transaction with rows that are new: nothing to forget. It
	// moves the place, so that a store set back to before it is another history.
	KeysInserted ChangeKind = 'i'
	// Barrier is no change; see [Store.Barrier].
	Barrier ChangeKind = 'b'
)

// Change is an entry of the change log.
type Change struct {
	Position
	Kind ChangeKind
	// Key is zero for [AllChanged], [KeysInserted] and [Barrier]. A row whose id was changed
	// gives two entries: the old id deleted, the new one rekeyed.
	Key ID
	// At is for display, by the store's clock.
	At time.Time
}
