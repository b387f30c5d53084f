package store

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
)

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
	// Beat is random and new at every turn that renews.
	Beat int64
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
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(m.Name, ""))
	if runes := []rune(printable); len(runes) > maxName {
		printable = string(runes[:maxName])
	}
	m.Name = printable
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
	// row a new beat, raises its Applied to the turn's, never lowers it, and
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
