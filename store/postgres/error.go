package postgres

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Error codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	badCharacter         = "22021"
	untranslatable       = "22P05"
	uniqueViolation      = "23505"
	readOnlyTransaction  = "25006"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"

	featureNotSupported   = "0A000"
	insufficientPrivilege = "42501"
	undefinedFunction     = "42883"
)

// explain turns the errors of pgx into those of the contract. It is the only way
// out of this package for them, and keeps in whatever came from the DSN.
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
		if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			err = explainConnect(failed.Unwrap())
		} else if server, ok := errors.AsType[*pgconn.PgError](err); ok {
			err = explainCode(server, cmp.Or(server.SeverityUnlocalized, server.Severity) != "ERROR")
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// explainConnect says why there is no connection, once for each cause. The texts
// of pgx name the user and the database; what is left names hosts at most.
func explainConnect(err error) error {
	said := map[string]bool{}
	explained := errors.New("connect")
	for cause := range causes(err) {
		if server, ok := cause.(*pgconn.PgError); ok { //nolint:errorlint // it is not wrapped
			cause = explainCode(server, true)
		}
		if text := cause.Error(); !said[text] {
			said[text] = true
			explained = fmt.Errorf("%w: %w", explained, cause)
		}
	}
	return explained
}

// causes are the innermost errors of which a whole text is made.
func causes(err error) iter.Seq[error] {
	return func(yield func(error) bool) {
		var walk func(err error) bool
		walk = func(err error) bool {
			switch e := err.(type) { //nolint:errorlint // looks at one layer at a time
			case nil:
				return true
			case *net.OpError, *net.DNSError, *tls.CertificateVerificationError:
				return yield(err)
			case interface{ Unwrap() []error }:
				for _, part := range e.Unwrap() {
					if !walk(part) {
						return false
					}
				}
				return true
			case interface{ Unwrap() error }:
				return walk(e.Unwrap())
			}
			return yield(err)
		}
		walk(err)
	}
}

// words say what the server means by the code of a fatal error. Its own message
// repeats names from the DSN.
var words = map[string]string{
	"08P01":               "the pooler does not pass this on",
	"28000":               "the server does not admit this user, database or address (pg_hba.conf)",
	"28P01":               "the password is wrong, or there is no such user",
	"3D000":               "there is no such database",
	insufficientPrivilege: "the user may not connect to this database",
	"42704":               "the server does not know a parameter of the DSN",
	"22023":               "the server does not take the value of a parameter of the DSN",
	"53300":               "the server has no connection left",
	"57P01":               "the server is shutting down, or somebody has ended the connection",
	"57P02":               "the server has crashed and is starting again",
	"57P03":               "the server is starting up or shutting down",
}

// statementMode is what PgBouncer says of BEGIN in its statement mode.
const statementMode = "transaction blocks not allowed in statement pooling mode"

// poolers are words for the messages of PgBouncer, which mostly have one code.
var poolers = map[string]string{
	statementMode:                    "PgBouncer in statement mode is not supported: set pool_mode to transaction or session",
	"no such database":               "the pooler does not know the database",
	"no such user":                   "the pooler does not know the user",
	"authentication failed":          "the pooler does not take the password, or does not know the user",
	"unsupported startup parameter":  "the pooler does not take a parameter of the DSN (ignore_startup_parameters)",
	"server_login_retry":             "the pooler cannot log in to the server",
	"cannot connect to server":       "the pooler does not reach the server",
	"server conn crashed":            "the pooler has lost the server",
	"query_wait_timeout":             "the pooler has no connection to the server free",
	"server does not allow new conn": "the pooler does not reach the server",
}

// explainCode is what the server has answered. A fatal answer ends the connection.
func explainCode(server *pgconn.PgError, fatal bool) error {
	switch server.Code {
	case readOnlyTransaction:
		return store.ErrStandby
	case badCharacter, untranslatable:
		return &store.InvalidError{Field: "text", Reason: "holds a character that the database cannot keep"}
	}
	// The details can quote a whole row, hash included; the message does not.
	clean := &pgconn.PgError{
		Severity: server.Severity, Code: server.Code, Message: server.Message,
		SchemaName: server.SchemaName, TableName: server.TableName,
		ColumnName: server.ColumnName, ConstraintName: server.ConstraintName,
	}
	if fatal || server.Code == "08P01" {
		clean.Message = meaning(server)
	}
	if refused(server) {
		return &store.RefusedError{Err: clean}
	}
	return clean
}

// meaning says in words of our own why the server ends a connection.
func meaning(server *pgconn.PgError) string {
	if server.Code == "08P01" {
		for text, words := range poolers {
			if strings.Contains(server.Message, text) {
				return words
			}
		}
	}
	return cmp.Or(words[server.Code], "the server does not serve this connection")
}

// refused reports whether the server would say the same tomorrow: its classes of
// codes for who is not let in (28), what is not there (3D, 3F), what may not be
// done or is another thing (42).
func refused(server *pgconn.PgError) bool {
	switch server.Code[:min(2, len(server.Code))] {
	case "28", "3D", "3F", "42":
		return true
	}
	return strings.Contains(server.Message, statementMode)
}

// code returns the server's code for an error, or "".
func code(err error) string {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return server.Code
	}
	return ""
}

// conflict is [store.ErrConflict] if something is there already.
func conflict(err error) error {
	if code(err) == uniqueViolation {
		return store.ErrConflict
	}
	return err
}
