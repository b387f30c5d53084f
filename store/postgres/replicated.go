package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errUnreplicated says that a transaction was committed here, and that the server
// was told not to wait for its standbys any longer. It reports success then, with
// a warning (src/backend/replication/syncrep.c): a failover may lose the change.
var errUnreplicated = errors.New("the wait for synchronous replication was cancelled: the outcome is not known")

// unreplicated marks a connection on which that has happened.
const unreplicated = "unreplicated"

func onNotice(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.Routine == "SyncRepWaitForLSN" {
		conn.CustomData()[unreplicated] = true
	}
}

// replicated makes success that is none an error.
func replicated(conn *pgx.Conn, write func() error) error {
	marks := conn.PgConn().CustomData()
	delete(marks, unreplicated)
	err := write()
	if err == nil && marks[unreplicated] != nil {
		err = errUnreplicated
	}
	return err
}
