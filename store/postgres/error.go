package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Error codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	uniqueViolation      = "23505"
	readOnlyTransaction  = "25006"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"

	featureNotSupported   = "0A000"
	insufficientPrivilege = "42501"
	undefinedFunction     = "42883"
)

// explain turns the errors of pgx into those of the contract.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, puddle.ErrClosedPool):
		err = store.ErrClosed
	case errors.Is(err, pgx.ErrNoRows):
		err = store.ErrNotFound
	default:
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && !connecting(err) {
			err = explainCode(server)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func explainCode(server *pgconn.PgError) error {
	if server.Code == readOnlyTransaction {
		return store.ErrStandby
	}
	// The details can quote a whole row, hash included; the message does not.
	return &pgconn.PgError{
		Severity: server.Severity, Code: server.Code, Message: server.Message,
		SchemaName: server.SchemaName, TableName: server.TableName,
		ColumnName: server.ColumnName, ConstraintName: server.ConstraintName,
	}
}

// connecting reports whether the error is from the time before any statement.
func connecting(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// code returns the server's code for an error, or "".
func code(err error) string {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return server.Code
	}
	return ""
}

// attempts is how often a transaction is tried that keeps losing to others.
const attempts = 5

// again repeats a transaction that the server undid in favour of another one:
// services that lock rows in an order of their own can wait for us in a circle.
func again(transaction func() error) (err error) {
	for range attempts {
		err = transaction()
		if code := code(err); code != deadlockDetected && code != serializationFailure {
			break
		}
	}
	return err
}
