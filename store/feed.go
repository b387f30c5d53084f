package store

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
)

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

// Bounds of [Member.TTL]. A store refuses others with an [*InvalidError].
const (
	MinTTL = 500 * time.Millisecond
	MaxTTL = 2 * time.Minute
)

// Member is an instance that may hold a lease.
type Member struct {
	// ID is a new random one at every join.
	ID ID
	// Name is for people: which process on which machine. See [Member.Clean].
	Name string
	// TTL is the longest time that the instance trusts its memory after a turn
	// began, in whole milliseconds.
	TTL time.Duration
	// Heartbeat is random and new at every turn that renews.
	Heartbeat int64
	// Applied is the rev up to which the instance has applied every change.
	Applied int64
	// JoinedAt and SeenAt are for display, by the store's clock.
	JoinedAt, SeenAt time.Time
}

// maxName is the length of a member's name, in characters.
const maxName = 200

// Clean returns the member as a store keeps it, or an [*InvalidError] about its
// ttl. A name cannot be wrong: what no store could keep of it is left out.
func (m Member) Clean() (Member, error) {
	if m.TTL < MinTTL || m.TTL > MaxTTL || m.TTL%time.Millisecond != 0 {
		return m, &InvalidError{Field: "ttl", Reason: fmt.Sprintf("must be whole milliseconds from %v to %v", MinTTL, MaxTTL)}
	}
	m.Name = firstCharacters(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(m.Name, "")), maxName)
	return m, nil
}

// Cut says how many requests in flight an instance has cut because of a change.
type Cut struct {
	Rev      int64
	Requests int
}

// Turn is what an instance says at its turn.
type Turn struct {
	Member ID
	// Applied is the place up to which the instance has applied every change;
	// zero after the start.
	Applied Position
	// Cuts of the changes that were applied since the last turn that was
	// answered. Saying the same again changes nothing.
	Cuts []Cut
	// Limit is how many changes it wants at most; at least 1.
	Limit int
}

// View is what the store says at a turn: one state of the database.
type View struct {
	// Member reports whether the instance's row is there. It is renewed then.
	Member bool
	// InLog reports whether Turn.Applied is a place in the log. If it is not,
	// this is another history, or the log was pruned past it: what the instance
	// knows may be wrong in any way, and its row's Applied was left as it was.
	InLog bool
	// Standby says that the server is read-only: its word may be old, and
	// nothing was renewed.
	Standby bool
	// Watched reports whether every change of a key is entered in the log. If
	// not, somebody has removed or disabled the triggers.
	Watched bool
	// Head is the newest place in the log, which is never empty.
	Head Position
	// Changes are the entries after Turn.Applied, in order, the oldest first;
	// none if InLog is false.
	Changes []Change
	// Origin names the server's history as well as it can be told. Another
	// origin than before may be another history.
	Origin string
}

// Feed is an instance's own session with the store, for the changes of keys. It
// is used by one goroutine at a time. After an error it is of no use any more:
// close it and open another.
type Feed interface {
	// Join makes the row of a member, with Applied 0. When it returns nil the
	// row is durable.
	Join(ctx context.Context, m *Member) error

	// Renew takes the instance's turn in one transaction: it gives the member's
	// row a new heartbeat, raises its Applied to the turn's, never lowers it, and
	// only if that place is in the log, enters the cuts, and returns the view.
	// It returns when the transaction is committed, and where the server waits
	// for standbys, when they have it.
	Renew(ctx context.Context, t *Turn) (*View, error)

	// Pull returns the view and writes nothing. It is quicker than Renew.
	Pull(ctx context.Context, t *Turn) (*View, error)

	// Wait returns nil when there may be something new to see, or when the time
	// is over or ctx ends, whichever is first. It may miss changes, and may
	// return for none.
	Wait(ctx context.Context, patience time.Duration) error

	// Close ends the session. It can be called more than once.
	Close() error
}

// Progress is how far the instances have come; one state of the database.
type Progress struct {
	// Head is the newest place in the log.
	Head Position
	// Watched and Origin are as in [View].
	Watched bool
	Origin  string
	// Members are ordered by JoinedAt, then by ID.
	Members []Member
	// Cut is how many requests in flight the instances say they have cut
	// because the key was deleted.
	Cut int
}

// SigningKey is the public half of a key that an instance signs with. The private
// half never leaves the instance.
type SigningKey struct {
	// ID names the key: the thumbprint of RFC 7638, so that no two keys share one.
	ID string
	// Public is an Ed25519 public key (RFC 8032 section 5.1.5).
	Public [32]byte
	// ExpiresAt is when others may forget it, by the store's clock.
	ExpiresAt time.Time
}

// SigningKeys is the part of a [Store] that tells all instances whose signatures
// are good.
type SigningKeys interface {
	// PublishSigningKey enters a key that is live for so long from now on, by the
	// store's own clock, or sets anew how long it still is: longer or shorter. A
	// life of zero or less ends it. When it returns nil the key is durable, and
	// whoever asks later is told of it. [ErrConflict] if the id is that of another
	// public key. Keys that have expired are removed on the way.
	PublishSigningKey(ctx context.Context, key SigningKey, life time.Duration) error

	// SigningKeys returns the keys that are live, in the order of their ids, as the
	// primary has them now. A standby's word is not taken: [ErrStandby].
	SigningKeys(ctx context.Context) ([]SigningKey, error)
}
