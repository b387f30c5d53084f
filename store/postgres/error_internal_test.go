package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestACodeDecidesWhatIsRefused(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"28000": true, "28P01": true, "3D000": true, "3F000": true, "42501": true, "42P07": true, "42704": true,
		"57P03": false, "57P01": false, "53300": false, "55P03": false, "08006": false, "08P01": false, "40001": false, "XX000": false, "58000": false, "0A000": false,
	} {
		for _, fatal := range []bool{true, false} {
			err := explain("migrate", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "hunter2"})
			if fatal {
				err = explain("migrate", &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "FATAL", Code: code, Message: "hunter2"})
			}
			if _, refused := errors.AsType[*store.RefusedError](err); refused != want {
				t.Errorf("%s: refused is %t", code, refused)
			}
			if fatal && strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), code) {
				t.Errorf("%s: %v", code, err)
			}
		}
	}
}

func TestTextThatTheDatabaseCannotKeepIsTheCallersMistake(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"22021", "22P05"} {
		if _, ok := errors.AsType[*store.InvalidError](explain("x", &pgconn.PgError{Severity: "ERROR", Code: code})); !ok {
			t.Errorf("%s is not", code)
		}
	}
}
