package store

import "errors"

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
