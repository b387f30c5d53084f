// Package store is the domain of caddy-system-keys: what a system key is, what
// may be asked of the place that keeps them, and which errors may come back.
//
// It imports the standard library alone. The drivers beside it (sqlite,
// postgres) implement [Store]; the suite in storetest is the definition of a
// correct implementation, and every driver runs it.
//
// # What is kept of a key
//
// A row holds the key's public id, a label, its permissions and an Argon2id
// hash of the whole key in PHC string form. The key itself is shown once when
// it is minted and is kept nowhere.
//
// # Who decides
//
// The store alone says whether a key exists. Caches in front of it remember
// work that was done, never that a key is still valid.
package store

import (
	"context"
	"errors"
)

// The errors that a [Store] returns, to be matched with [errors.Is]. Anything
// else means that the store could not be asked: its answer is unknown, and a
// caller fails closed. No error ever carries a key, a hash or a password.
var (
	// ErrNotFound says that there is no such key. It is an answer, not a fault.
	ErrNotFound = errors.New("no such key")
	// ErrConflict says that the row is not what the caller believed: it exists
	// already, or it changed since it was read.
	ErrConflict = errors.New("the key was changed meanwhile")
	// ErrActorGone says that the key on whose word a write was to be made is not
	// there any more. See [Acting].
	ErrActorGone = errors.New("the acting key is gone")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrOccupied says that a store already holds what cannot be joined with that
	// of another. See [Moving].
	ErrOccupied = errors.New("the store is not empty")
	// ErrReplaced says that the database is not the one that was opened: whatever
	// is written to it, nobody else will read. It does not pass.
	ErrReplaced = errors.New("the database was replaced")
	// ErrStandby says that the server reached is a read-only standby, whose
	// word on a key may be old, or that sessions on it are read-only. Only a
	// primary that can be written to is believed.
	ErrStandby = errors.New("the database is read-only")
	// ErrOtherHistory says that the server reached is not the one on which changes
	// are followed, or lacks changes that were seen there: it is the old primary
	// after a failover, for instance. Nothing that it says is believed, and nothing
	// was changed on it. See [Seen].
	ErrOtherHistory = errors.New("the database server has another history than the one that is followed")
)

// InvalidError says which field of a key breaks a rule, and how, in words that
// can be shown to whoever sent it.
type InvalidError struct {
	// Field is the name in the API, such as "label".
	Field string
	// Reason continues the sentence that the field's name begins.
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// RefusedError says that the database has answered, and that waiting does not
// help: the password, the database, the rights or the schema are not as they must
// be, or this is no server that a store works on.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

func (e *RefusedError) Unwrap() error { return e.Err }

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

	// Reap removes a member if its heartbeat is still the one given, and reports
	// whether it did.
	Reap(ctx context.Context, member ID, heartbeat int64) (bool, error)

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

// Acting is the key on whose word a write is made. The store locks its row and
// reads it in the transaction of the write itself: until the write is committed
// the acting key cannot be deleted, and once it is deleted the write cannot be
// made any more. So a revoked admin cannot finish what it began, whatever its
// request was waiting for.
type Acting struct {
	ID ID
	// Allow decides on the acting key as it is in that transaction, without its
	// hash. Its error ends the transaction and is returned, wrapped.
	Allow func(key *Key) error
}

// Write is what goes with a change of a key, in its transaction.
type Write struct {
	// Acting is nil if nobody's word is needed: for whoever has the store in
	// hands.
	Acting *Acting
	// Record makes the audit record of the change; it may be called more than
	// once. Without it, a deletion is recorded as one by plain SQL.
	Record func(key *Key) AuditRecord
	// Sealer seals the record as the next of [SharedChain]. Nil leaves that to
	// whoever can; see [AuditLog].
	Sealer Sealer
}

// By returns the acting key's part of a write that may be nil.
func (w *Write) By() *Acting {
	if w == nil {
		return nil
	}
	return w.Acting
}

// Records returns the record of a change of the key, clean, or none.
func (w *Write) Records(key *Key) (record AuditRecord, ok bool) {
	if w == nil || w.Record == nil {
		return AuditRecord{}, false
	}
	return w.Record(key).Clean(), true
}

// Moving is the part of a [Store] by which everything that has to outlive it
// gets into another one, of whatever driver: the mint key, the keys with their
// hashes, and the audit log with its chains. Sessions, the change log, members
// and signing keys stay: each installation makes its own.
//
// The two ends meet in a call that holds nothing in memory but a batch:
//
//	err := to.Import(ctx, func(r store.Recipient) error { return from.Export(ctx, r) })
type Moving interface {
	// Export hands over what the store holds, as it is at one moment, and changes
	// nothing. The schema has to be up to date, and is not brought there. An error
	// of the recipient ends it and is returned. A standby's word is not taken:
	// [ErrStandby].
	Export(ctx context.Context, to Recipient) error

	// Import takes what fill hands over, in one transaction that is committed if
	// fill returns nil: the store has all of it then, durably, and nothing of it
	// after an error. An error of fill is returned as it is. [ErrOccupied], before
	// fill is called, if there are keys, audit records or members: what was minted
	// here could not be told from what was not under another mint key, and chains
	// cannot be joined. The recipient is not to be used after fill has returned.
	Import(ctx context.Context, fill func(to Recipient) error) error
}

// Recipient takes over what [Moving.Export] reads: the mint key once, then the
// others in batches. It is not safe for concurrent use, and keeps nothing that it
// is given. Its errors are final.
type Recipient interface {
	// MintKey replaces the one that the store was made with.
	MintKey(ctx context.Context, key MintKey) error
	// Keys are complete, with their hashes.
	Keys(ctx context.Context, keys []Key) error
	// Chains and Records are kept as they are, links and signatures included, so
	// that the log verifies under the same secret as before.
	Chains(ctx context.Context, chains []AuditChain) error
	Records(ctx context.Context, records []AuditRecord) error
}
