package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// atPlace is a condition of a statement: that the place whose rev and tag are the
// n-th argument and the one after it is in the server's log, or that none was seen.
func atPlace(n int) string {
	return fmt.Sprintf("(EXISTS (SELECT FROM sidecar.change_log WHERE rev = $%d AND tag = $%d) OR $%d = 0)", n, n+1, n)
}

// followed is atPlace, and that the server's origin is the argument after those, or
// that this is not known. The place alone does for what is logged: where nothing
// was logged since the fork it is in both histories, and a row is the same in both.
func followed(origin string, n int) string {
	return fmt.Sprintf("(%s AND (%s = $%d OR $%d = ''))", atPlace(n), origin, n+2, n+2)
}

// seenArguments are those of followed. The first two are those of atPlace.
func (s *Store) seenArguments() []any {
	origin, place := s.seen.History()
	return []any{place.Rev, place.Tag, origin}
}

// believe makes a call whose statement asks for what the feed has seen.
func (s *Store) believe(call func() error) error { return s.seen.Believe(s.pool.Reset, call) }

// note takes in what a feed was told.
func (s *Store) note(view *store.View, renewed bool) {
	s.seen.Note(view, renewed)
	if !view.Standby {
		s.align(view.Origin)
	}
}

// align makes the pool's connections anew when the feed has got to a server of
// another origin. Nothing would end them while the old server is there.
func (s *Store) align(origin string) {
	old := s.aligned.Load()
	if old != nil && *old == origin {
		return
	}
	if s.aligned.Swap(&origin); old != nil {
		s.pool.Reset()
	}
}

// beginner is a pool, or a connection.
type beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// transact runs do in a transaction on the server that is followed, and commits it
// unless do returns an error.
func (s *Store) transact(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.there(ctx, func(origin string) error { return s.transactOn(ctx, s.pool, origin, do) })
}

// durably is transact, and fails if what it has committed is not where it should be.
func (s *Store) durably(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.there(ctx, func(origin string) error {
		return s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			return replicated(conn.Conn(), func() error { return s.transactOn(ctx, conn, origin, do) })
		})
	})
}

// there makes a call with the expression of the origin, on the server that is
// followed.
func (s *Store) there(ctx context.Context, call func(origin string) error) error {
	origin, err := s.origin(ctx, s.pool)
	if err != nil {
		return err
	}
	return s.believe(func() error { return call(origin) })
}

func (s *Store) transactOn(ctx context.Context, db beginner, origin string, do func(tx pgx.Tx) error) error {
	var at string
	err := transact(ctx, db, func(tx pgx.Tx) (err error) {
		at, err = checked(tx.QueryRow(ctx, "SELECT "+self(origin, 1), s.seenArguments()...))
		if err != nil {
			return err
		}
		return do(tx)
	})
	if err == nil {
		s.seen.Committed(at)
	}
	return err
}

// self are the columns by which a server says what it is.
func self(origin string, n int) string {
	return "pg_is_in_recovery(), " + origin + ", " + followed(origin, n)
}

// checked reads the columns of self, and what was selected after them into more.
func checked(row pgx.Row, more ...any) (origin string, err error) {
	var standby, followed bool
	err = row.Scan(append([]any{&standby, &origin, &followed}, more...)...)
	switch {
	case err != nil:
		return "", err
	case standby:
		return "", store.ErrStandby
	case !followed:
		return "", store.ErrOtherHistory
	}
	return origin, nil
}
