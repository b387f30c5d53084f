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

// These are error codes of PostgreSQL, see
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	badCharacter         = "22021"
	untranslatable       = "22P05"
	uniqueViolation      = "23505"
	readOnlyTransaction  = "25006"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	idleTooLong          = "25P03"

	featureNotSupported   = "0A000"
	insufficientPrivilege = "42501"
	undefinedFunction     = "42883"
)

// explain turns the errors of pgx into those of the contract. Every error of pgx passes it
// before it leaves this package, so that no part of the DSN gets out.
//
// A pool that was closed is [store.ErrClosed], and a row that is not there [store.ErrNotFound]. A
// server that only reads is [store.ErrStandby]. Text that the database cannot keep is a
// [*store.InvalidError]. If waiting does not help, the error is a [*store.RefusedError]. Other
// errors of the server lose their details, and all others are wrapped as they are. What names the
// call.
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
		// An error that does not end the connection has the severity ERROR. Others are FATAL or
		// PANIC.
		if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			err = explainConnect(failed.Unwrap())
		} else if server, ok := errors.AsType[*pgconn.PgError](err); ok {
			err = explainCode(server, cmp.Or(server.SeverityUnlocalized, server.Severity) != "ERROR")
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// explainConnect says why there is no connection. Each cause is named once. The texts of pgx
// name the user and the database. The causes name hosts at most. An error may have several
// causes: a name can have several addresses, and by default each is tried with and without TLS.
func explainConnect(err error) error {
	named := map[string]bool{}
	explained := errors.New("connect")
	for cause := range causes(err) {
		if server, ok := cause.(*pgconn.PgError); ok { //nolint:errorlint // it is not wrapped
			cause = explainCode(server, true)
		}
		if text := cause.Error(); !named[text] {
			named[text] = true
			explained = fmt.Errorf("%w: %w", explained, cause)
		}
	}
	return explained
}

// causes yields the innermost errors of an error that wraps several. Errors of the network and
// of certificates are whole: what they wrap says less.
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

// fatalCodes explain the codes of fatal errors. The server's own messages repeat names from
// the DSN.
var fatalCodes = map[string]string{
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

// statementMode is PgBouncer's error for BEGIN in its statement mode.
const statementMode = "transaction blocks not allowed in statement pooling mode"

// poolerMessages explain the messages of PgBouncer, most of which have the code 08P01.
var poolerMessages = map[string]string{
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

// explainCode turns an error of the server into one that can be shown. Fatal says that the error
// has ended the connection.
func explainCode(server *pgconn.PgError, fatal bool) error {
	switch server.Code {
	case readOnlyTransaction:
		return store.ErrStandby
	case badCharacter, untranslatable:
		return &store.InvalidError{Field: "text", Reason: "holds a character that the database cannot keep"}
	}
	// The details can quote a whole row with its hash. The message does not.
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

// meaning says in our own words why the server has ended a connection. Of PgBouncer the text
// counts, since one code stands for most of its errors.
func meaning(server *pgconn.PgError) string {
	if server.Code == "08P01" {
		for text, explanation := range poolerMessages {
			if strings.Contains(server.Message, text) {
				return explanation
			}
		}
	}
	return cmp.Or(fatalCodes[server.Code], "the server does not serve this connection")
}

// refused reports whether waiting does not help. The first two characters of a code are its
// class: 28 is wrong credentials, 3D and 3F are a missing database or schema, and 42 is a
// missing right or a wrong schema. A pooler in statement mode stays so until somebody configures
// it anew.
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

// conflict turns a violation of a unique constraint into [store.ErrConflict]. Other errors are
// returned as they are.
func conflict(err error) error {
	if code(err) == uniqueViolation {
		return store.ErrConflict
	}
	return err
}
