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
	// Rev grows in the order in which changes are committed: if one change can be seen, all
	// changes before it can be seen too. It starts at 1. 0 is before the log.
	Rev int64
	// Tag is random. Rev and Tag together name a place in one history. A restored backup,
	// or a promoted standby that had missed commits, may give the same rev again, but not
	// with the same tag.
	Tag int64
}

// ChangeKind says what happened to a key.
type ChangeKind byte

// The kinds of changes. Their letters in the log are part of the schema.
const (
	// KeyDeleted is the deletion of a row, also if there was no such row.
	KeyDeleted ChangeKind = 'd'
	// KeyChanged is a change of a label, permissions, is_system or expiry. A last use does
	// not count.
	KeyChanged ChangeKind = 'u'
	// KeyRekeyed is a change of the hash, and possibly of other columns, by any other way
	// than [Store.RehashKey]. The row may belong to another key now.
	KeyRekeyed ChangeKind = 'k'
	// KeyRehashed is a change of the hash alone, by [Store.RehashKey]. The row belongs to the
	// same key as before.
	KeyRehashed ChangeKind = 'h'
	// AllChanged is a change of any number of rows, such as TRUNCATE.
	AllChanged ChangeKind = 'f'
	// KeysInserted says that rows were inserted. No cache has to forget anything. The entry
	// moves the head of the log, so that a store that is restored to a state before it is
	// seen as another history.
	KeysInserted ChangeKind = 'i'
	// Barrier is not a change; see [Store.Barrier].
	Barrier ChangeKind = 'b'
)

// Change is an entry of the change log.
type Change struct {
	Position
	Kind ChangeKind
	// Key is zero for [AllChanged], [KeysInserted] and [Barrier]. A change of an id gives two
	// entries: the old id is deleted, and the new id is rekeyed.
	Key ID
	// At is for display, by the store's clock.
	At time.Time
}

// Bounds of [Member.TTL]. A store refuses other values with an [*InvalidError].
const (
	MinTTL = 500 * time.Millisecond
	MaxTTL = 2 * time.Minute
)

// Member is an instance that may hold a lease.
type Member struct {
	// ID is random and new at every join.
	ID ID
	// Name tells people which process on which machine it is. See [Member.Clean].
	Name string
	// TTL is the lease time: how long the instance trusts its caches after the beginning of
	// a turn. It is in whole milliseconds.
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

// Clean returns the member as a store keeps it, or an [*InvalidError] about its ttl. It
// removes characters that a store cannot keep from the name.
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

// Cut says how many in-flight requests an instance has cut because of a change.
type Cut struct {
	Rev      int64
	Requests int
}

// Turn is what an instance reports at its turn.
type Turn struct {
	Member ID
	// Applied is the place up to which the instance has applied every change. After the
	// start it is zero.
	Applied Position
	// Cuts belong to the changes that were applied since the last answered turn. Reporting
	// the same cut again changes nothing.
	Cuts []Cut
	// Limit is the highest number of changes that the view may have. It is at least 1.
	Limit int
	// ExpiredBefore asks whether there are keys whose expiry is before this time, in a turn
	// by Renew. Zero asks nothing.
	ExpiredBefore time.Time
}

// View is the answer of the store at a turn. It shows one state of the database.
type View struct {
	// Member reports whether the instance's row exists. If it does, Renew has renewed it.
	Member bool
	// InLog reports whether Turn.Applied is a place in the log. If not, this is another
	// history, or the log was pruned past that place. Anything that the instance remembers
	// may be wrong then. Applied in its row stays as it was.
	InLog bool
	// Standby says that the server is read-only. Its data may be old, and nothing was
	// renewed.
	Standby bool
	// Watched reports whether every change of a key gets into the log. If not, somebody has
	// removed or disabled the triggers.
	Watched bool
	// Unfollowed says that a table of another service is to be followed, and that its changes
	// do not all get here. Keys that were imported may have been revoked there.
	Unfollowed bool
	// Head is the newest place in the log, which is never empty.
	Head Position
	// Changes are the entries after Turn.Applied, the oldest first. If InLog is false, there
	// are none.
	Changes []Change
	// Origin names the server's history, as well as the server lets itself be named. A new
	// origin may mean another history.
	Origin string

	// The rest is for a turn by Renew alone. LongestTTL is the longest TTL of all members.
	LongestTTL time.Duration
	// Silent are other members that have taken no turn for a while, by the store's clock:
	// those that may be dead, and all that are. They have an ID, a Name, a TTL and a Heartbeat.
	Silent []Member
	// Unsealed reports whether there is something for [AuditLog.SealAudit]. A record counts
	// once it is a second old: so of all the instances that a change has woken, only those
	// whose turn is next seal it.
	Unsealed bool
	// Expired is the answer to Turn.ExpiredBefore.
	Expired bool
}

// Feed is an instance's own session on the change log. Only one goroutine may use it at a
// time. After an error it must be closed, and another one opened.
type Feed interface {
	// Join inserts the row of a member, with Applied 0. When it returns nil, the row is
	// durable.
	Join(ctx context.Context, m *Member) error

	// Renew takes the instance's turn in one transaction. It gives the member's row a new
	// heartbeat, enters the cuts, and returns the view. If the place Applied is in the log,
	// it raises Applied in the row, and never lowers it. Renew returns when the transaction
	// is committed. If the server waits for standbys, it returns when they have the commit.
	Renew(ctx context.Context, t *Turn) (*View, error)

	// Pull returns the view and writes nothing. It is faster than Renew.
	Pull(ctx context.Context, t *Turn) (*View, error)

	// Wait returns nil when there may be new changes, when the time is over, or when ctx
	// ends. It may miss changes, and may return without one.
	Wait(ctx context.Context, patience time.Duration) error

	// Close ends the session. It can be called more than once.
	Close() error
}

// Progress shows up to which change each instance has come, in one state of the database.
type Progress struct {
	// Head is the newest place in the log.
	Head Position
	// Watched and Origin are as in [View].
	Watched bool
	Origin  string
	// Members are those of the awaited that have not left, by JoinedAt. Members with the same
	// JoinedAt have an order that each driver chooses, and that is the same in each call.
	Members []Member
	// Cut is how many in-flight requests the instances report to have cut because the keys
	// were deleted.
	Cut int
}

// SigningKey is the public half of a key with which an instance signs. The private half never
// leaves the instance.
type SigningKey struct {
	// ID is the thumbprint of RFC 7638, so that no two keys have the same id.
	ID string
	// Public is an Ed25519 public key (RFC 8032 section 5.1.5).
	Public [32]byte
	// ExpiresAt is when other instances may forget the key, by the store's clock.
	ExpiresAt time.Time
}

// SigningKeys is the part of a [Store] by which all instances know whose signatures are valid.
type SigningKeys interface {
	// PublishSigningKey stores a key that expires after life, by the store's own clock. If
	// the key is stored already, it gets the new expiry, which may be earlier or later. A
	// life of zero or less ends the key. When PublishSigningKey returns nil, the key is
	// durable, and later calls of SigningKeys return it. The error is [ErrConflict] if the id
	// belongs to another public key. It also removes keys that have expired.
	PublishSigningKey(ctx context.Context, key SigningKey, life time.Duration) error

	// SigningKeys returns the keys that have not expired, in the order of their ids, as the
	// primary has them now. On a standby the error is [ErrStandby].
	SigningKeys(ctx context.Context) ([]SigningKey, error)
}
