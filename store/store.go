// Package store is the domain of caddy-system-keys. It defines what a system key is, what a
// store of keys must do, and which errors it may return.
//
// It imports only the standard library. The drivers beside it (sqlite, postgres) implement
// [Store]. The test suite in storetest defines a correct implementation, and every driver
// runs it.
//
// # What is kept of a key
//
// A row holds the key's public id, a label, its permissions and an Argon2id hash of the
// whole key as a PHC string. The key itself is shown once, when it is minted, and is kept
// nowhere.
//
// # Who decides
//
// Only the store decides whether a key exists. The caches in front of it remember work that
// was done. They never remember that a key is still valid.
package store

import (
	"context"
	"errors"
)

// These are the errors of a [Store], for [errors.Is]. Any other error means that the store
// could not be asked. Its answer is unknown then, and the caller must fail closed. No error
// contains a key, a hash or a password.
var (
	// ErrNotFound means that there is no such key. It is an answer, not a fault.
	ErrNotFound = errors.New("no such key")
	// ErrConflict means that the row is not as the caller expected. It exists already, or it
	// has changed since it was read.
	ErrConflict = errors.New("the key was changed meanwhile")
	// ErrActorGone means that the key that wanted to make a write does not exist any more.
	// See [Acting].
	ErrActorGone = errors.New("the acting key is gone")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrOccupied means that a store already holds data that cannot be joined with the data
	// of another store. See [Moving].
	ErrOccupied = errors.New("the store is not empty")
	// ErrReplaced means that the open database was replaced by another one. Nobody else will
	// read what is written to it. The error stays until the process ends.
	ErrReplaced = errors.New("the database was replaced")
	// ErrStandby means that the server is a read-only standby, or that its sessions are
	// read-only. The data of a standby may be old. Only a primary that can be written to is
	// trusted.
	ErrStandby = errors.New("the database is read-only")
	// ErrOtherHistory means that the server is not the one whose changes are followed, or
	// that it lacks changes that were seen. It may be the old primary after a failover. Its
	// answers are not trusted, and nothing was changed on it. See [Seen].
	ErrOtherHistory = errors.New("the database server has another history than the one that is followed")
)

// InvalidError says which field of a key breaks a rule, and which rule. Its text can be shown
// to the client.
type InvalidError struct {
	// Field is the name in the API, such as "label".
	Field string
	// Reason continues a sentence whose subject is the field.
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// RefusedError means that the database has answered and that waiting does not help. The
// password, the database, the rights or the schema are wrong, or the server is not
// supported.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

func (e *RefusedError) Unwrap() error { return e.Err }

// MintKey is the secret under which the keys of this installation are tagged. The first
// migration makes it, and all instances share it through the store. It does not protect the
// keys: their 256 random bits do. With it, a string that was never minted can be refused
// without a query.
type MintKey [32]byte

// Store keeps system keys. Every method is safe for concurrent use and honours its context.
// The comments below name the errors of a method. Besides those, a method returns
// [ErrClosed] after [Store.Close], and other errors if it cannot get the answer.
type Store interface {
	// Migrate brings the schema up to date, and makes the mint key if there is none. Any
	// number of instances may call it at the same time. Each migration is applied once, as
	// a whole or not at all. If the schema is newer than this program, Migrate returns an
	// error and changes nothing.
	Migrate(ctx context.Context) error

	// Inspect looks for what is wrong with the schema and with the rights of the role. It
	// changes nothing, and needs no schema and no rights but to connect.
	Inspect(ctx context.Context) (*Inspection, error)

	// MintKey returns the mint key. It never changes in the life of a store.
	MintKey(ctx context.Context) (MintKey, error)

	// CreateKey inserts a key as it is. The caller must have cleaned its label and
	// permissions. The error is [ErrConflict] if the id is taken. If the acting key may not
	// create keys, it is [ErrActorGone] or the error of [Acting.Allow]. A nil write has no
	// acting key and leaves no record.
	CreateKey(ctx context.Context, key *Key, write *Write) error

	// Key returns one key as the primary has it now, or [ErrNotFound]. On a standby the
	// error is [ErrStandby].
	Key(ctx context.Context, id ID) (*Key, error)

	// Keys returns one page of a list, without the hashes. With a million keys, any page
	// takes milliseconds, except with [SortPermissions]. If a key is not added, removed or
	// changed in the sorted column while a caller reads all pages, it is on exactly one of
	// them.
	Keys(ctx context.Context, query *KeyQuery) (*KeyPage, error)

	// Granted returns the permissions that the newest keys hold, sorted and without
	// duplicates, [MaxGranted] at most. Keys is how many keys it reads at most. It takes
	// tens of milliseconds for ten thousand keys.
	Granted(ctx context.Context, keys int) ([]string, error)

	// DeleteKey deletes a key for ever and returns it as it was, without its hash. The error
	// is [ErrNotFound] if there is no such key. With both answers the deletion of this id is
	// durable in the change log, no matter who has deleted the row before. So is the audit
	// record, if the write has one. The acting key is as for CreateKey, and may delete
	// itself. After any other error the key may be deleted or not.
	//
	// The keys that have it among their [Key.Ancestors] are deleted with it, whether the key
	// itself is there or not. Each has its record.
	DeleteKey(ctx context.Context, id ID, write *Write) (*Key, error)

	// DeleteKeys deletes all keys that match the filter, and returns them as they were, without
	// their hashes, in the order of their ids. That is one transaction with their records, as
	// for DeleteKey: all keys are deleted or none is. If no key matches, nothing happens, and
	// there is no error. The caller names the acting key in [KeyFilter.Except]; it is not
	// spared otherwise. Keys that come from those that are deleted are deleted with them, and
	// returned too. If one of these is to be kept, the error is an [*InvalidError], and nothing
	// happens.
	DeleteKeys(ctx context.Context, filter *KeyFilter, write *Write) ([]*Key, error)

	// MatchKeys returns the keys that DeleteKeys would delete now.
	MatchKeys(ctx context.Context, filter *KeyFilter) ([]*Key, error)

	// RotateKey replaces a key by a successor, in one transaction. If the key was replaced
	// before, and that successor was never used, the successor is deleted first. The write
	// records the successor and each key that is deleted. The error is [ErrNotFound] if there
	// is no such key, [ErrEnded] if it has expired, a [*ReplacedError] if its successor has to
	// stay, an [*InvalidError] of [Rotation.Check], or one of the acting key as for CreateKey.
	RotateKey(ctx context.Context, rotation *Rotation, write *Write) (*Rotated, error)

	// RehashKey replaces a key's hash by another hash of the same key, if the hash is still
	// the old one. Nothing else about the key changes, and its users notice nothing. The
	// change is logged as [KeyRehashed]. The error is [ErrConflict] if the key has another
	// hash by now, and [ErrNotFound] if it does not exist any more.
	RehashKey(ctx context.Context, id ID, old, renewed Hash) error

	// RecordUse adds what was counted of each key to its [Activity], and sets its last use, if
	// the new time is later. So the order of calls does not matter. A time that is more than a
	// second ahead of the store's own clock is cut to one second ahead. Keys that do not exist
	// any more are skipped. The first use of a successor ends the key that it replaces after
	// its [Key.Grace]. One call is one transaction. If the store cannot say whether it was
	// committed, the caller tries again, and the increments may be there twice.
	RecordUse(ctx context.Context, uses []Use) error

	// Follow opens a session on the change log. The instance has not joined yet. [Store.Close]
	// does not close sessions: each needs its own Close, before or after.
	Follow(ctx context.Context) (Feed, error)

	// Barrier enters a [Barrier] into the change log and returns its rev. Every change that
	// was committed earlier, by any program, comes before it in the log. When it returns nil,
	// those changes are durable.
	Barrier(ctx context.Context) (rev int64, err error)

	// Progress returns up to which change each of the awaited members has come, and how many
	// requests were cut because these keys were deleted. If awaited is nil, all members are.
	Progress(ctx context.Context, keys, awaited []ID) (*Progress, error)

	// Leave removes a member. If there is none, it returns nil.
	Leave(ctx context.Context, member ID) error

	// Reap removes a member if it still has this heartbeat, and reports whether it did.
	Reap(ctx context.Context, member ID, heartbeat int64) (bool, error)

	// Prune removes the oldest entries of the change log, with their cuts. Keep is how many
	// entries are left. At least one always is.
	Prune(ctx context.Context, keep int) error

	Activities

	AuditLog

	Sessions

	SigningKeys

	Adoption

	Moving

	// Close waits for running calls and releases the connections. It can be called more than
	// once.
	Close() error
}

// Acting is the key that makes a write. The store locks and reads its row in the transaction of
// the write. Until the write is committed, the acting key cannot be deleted. Once it is
// deleted, the write fails. So a revoked admin cannot finish a request that was waiting.
type Acting struct {
	ID ID
	// Allow checks the acting key as it is in that transaction, without its hash. Its error
	// ends the transaction and is returned, wrapped.
	Allow func(key *Key) error
}

// Write belongs to a change of a key, and takes effect in its transaction.
type Write struct {
	// Acting is nil if the writer needs no key, as on the command line.
	Acting *Acting
	// Record makes the audit record of the change. It may be called more than once. If it is
	// nil, a deletion is recorded like one by plain SQL.
	Record func(key *Key) AuditRecord
	// Sealer seals the record as the next one of [SharedChain]. If it is nil, a server seals
	// the record later; see [AuditLog].
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

// Moving is the part of a [Store] that moves its data into another store of any driver. It
// moves the mint key, the keys with their hashes, and the audit log with its chains. It does
// not move sessions, the change log, members and signing keys: each installation makes its
// own.
//
// This call moves a store, with one batch at a time in memory:
//
//	err := to.Import(ctx, func(r store.Recipient) error { return from.Export(ctx, r) })
type Moving interface {
	// Export hands the data of the store over, as it is at one moment, and changes nothing.
	// It does not migrate the schema, which must be up to date. An error of the recipient
	// ends the export and is returned. On a standby the error is [ErrStandby].
	Export(ctx context.Context, to Recipient) error

	// Import stores the data that fill hands to the recipient, in one transaction. It commits
	// if fill returns nil: the store then has all the data, durably. After an error it has
	// none of it. An error of fill is returned as it is. The error is [ErrOccupied], before
	// fill is called, if there are keys, audit records or members. Under another mint key,
	// keys that were minted here would not be recognized, and chains cannot be joined. Do not
	// use the recipient after fill has returned.
	Import(ctx context.Context, fill func(to Recipient) error) error

	// KnownKeys returns the keys with these ids, with their hashes and in any order, and the
	// ids that the audit log has as revoked, or as deleted after their expiry.
	KnownKeys(ctx context.Context, ids []ID) (keys []Key, revoked []ID, err error)

	// AddKeys stores the keys that fill hands to add, beside those that are there, in one
	// transaction. It commits if fill returns nil. After an error it has stored none of them,
	// and an error of fill is returned as it is. The error of add is [ErrConflict] if an id
	// is taken. After an error of add, fill must return. Servers may run meanwhile.
	AddKeys(ctx context.Context, fill func(add func(keys []Key) error) error) error
}

// Recipient takes the data that [Moving.Export] reads: the mint key once, then the rest in
// batches. It is not safe for concurrent use, and does not keep its arguments. After an error
// it cannot be used any more.
type Recipient interface {
	// MintKey replaces the mint key of the store.
	MintKey(ctx context.Context, key MintKey) error
	// Keys stores keys, which have their hashes.
	Keys(ctx context.Context, keys []Key) error
	// Chains and Records store chains and records as they are, with links and signatures, so
	// that the log verifies under the same secret as before.
	Chains(ctx context.Context, chains []AuditChain) error
	Records(ctx context.Context, records []AuditRecord) error
}
