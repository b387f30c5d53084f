package store

import (
	"context"
)

// MintKey is the secret under which this installation's keys are tagged, made
// by the first migration and shared by all instances through the store. It
// does not protect the keys (their 256 random bits do); it lets a string that
// was never minted be refused without a query.
type MintKey [32]byte

// Store keeps system keys. Every method is safe for concurrent use and honours
// its context. Methods that are not given an error of their own below return
// [ErrClosed] after [Store.Close], and any other error when the answer cannot
// be had.
type Store interface {
	// Migrate brings the schema up to date, and makes the mint key when there
	// is none. Any number of instances may call it at the same time; each
	// migration is applied once, whole or not at all. A schema that is newer
	// than this program knows is an error, and is left as it is.
	Migrate(ctx context.Context) error

	// MintKey returns the mint key. It never changes in the life of a store.
	MintKey(ctx context.Context) (MintKey, error)

	// CreateKey inserts a key as it is given; the caller has cleaned its label
	// and permissions. [ErrConflict] if the id is taken; [ErrActorGone], or the
	// error of [Acting.Allow], if the acting key may not. A nil write is nobody's
	// word, and leaves no record.
	CreateKey(ctx context.Context, key *Key, write *Write) error

	// Key returns one key as the primary has it now, or [ErrNotFound]. A
	// standby's word is not taken: [ErrStandby].
	Key(ctx context.Context, id ID) (*Key, error)

	// Keys returns one page of a list, without the hashes. A page takes
	// milliseconds at a million keys, wherever in the list it is, but for
	// [SortPermissions]. A key that is neither added nor removed while a caller
	// walks the pages, and whose sorted value stays the same, is met exactly once.
	Keys(ctx context.Context, query *KeyQuery) (*KeyPage, error)

	// Granted returns the permissions that the newest keys hold, this many keys at
	// most: each once, sorted, [MaxGranted] at most. It takes tens of milliseconds
	// for ten thousand keys.
	Granted(ctx context.Context, keys int) ([]string, error)

	// DeleteKey deletes a key for ever and returns what it was, without its
	// hash; [ErrNotFound] if there is none. With both answers the deletion of this
	// id is in the change log and durable, whatever became of its row and by whom,
	// and so is the record if there was one. The acting key is as for CreateKey,
	// and may delete itself. After an error that is no answer the key may be
	// deleted or not.
	DeleteKey(ctx context.Context, id ID, write *Write) (*Key, error)

	// RehashKey replaces a key's hash if it is still the old one, by another
	// hash of the same key. Nothing else about the key changes, and the key's
	// users notice nothing: it is entered in the log as [KeyRehashed].
	// [ErrConflict] if the hash is another by now, [ErrNotFound] if the key is
	// gone.
	RehashKey(ctx context.Context, id ID, old, renewed Hash) error

	// RecordUse moves each key's last use forward to the time given, never
	// backwards, whatever order batches arrive in. Times that lie ahead of the
	// store's own clock by more than a second are cut to that. Keys that are
	// gone are passed over. One call is one transaction.
	RecordUse(ctx context.Context, uses []Use) error

	// Follow opens a session on the change log. The instance has not joined
	// yet. Sessions that are open when the store is closed end by their own
	// Close, before or after.
	Follow(ctx context.Context) (Feed, error)

	// Barrier enters a [Barrier] into the change log and returns its rev.
	// Whatever was committed before, by whomever, is before it in the log and
	// is durable when it returns nil.
	Barrier(ctx context.Context) (rev int64, err error)

	// Progress says who the members are and how far they have come, and how
	// many requests were cut for the deletion of this key.
	Progress(ctx context.Context, key ID) (*Progress, error)

	// Leave removes a member. No row is not an error.
	Leave(ctx context.Context, member ID) error

	// Reap removes a member if its beat is still the one given, and reports
	// whether it did.
	Reap(ctx context.Context, member ID, beat int64) (bool, error)

	// Prune removes the oldest entries of the change log, so that the newest
	// keep of them are left; at least one is, always. It removes what belongs to
	// those entries too.
	Prune(ctx context.Context, keep int) error

	AuditLog

	Sessions

	SigningKeys

	Adoption

	Moving

	// Close releases what the store holds, after the calls that are running.
	// It can be called more than once.
	Close() error
}
