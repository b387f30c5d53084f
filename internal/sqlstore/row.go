package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Result calls run with do, and returns the result of do. With is what a driver runs statements
// on, such as a transaction. Run may call do more than once, for instance after a deadlock: the
// last result counts. If run returns an error, the result is the zero value.
func Result[With, T any](
	ctx context.Context, run func(ctx context.Context, do func(with With) error) error, do func(with With) (T, error),
) (T, error) {
	var result, none T
	err := run(ctx, func(with With) (err error) {
		result, err = do(with)
		return err
	})
	if err != nil {
		return none, err
	}
	return result, nil
}

// Where makes a WHERE clause of conditions. Without conditions it is empty. The conditions are SQL
// of this program, with placeholders for values. One with OR must be in parentheses.
func Where(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conditions, " AND ")
}

// Row is a row of database/sql or of pgx.
type Row interface{ Scan(dest ...any) error }

// ID returns a destination for a column of UUIDs. NULL leaves the id as it is.
func ID(id *store.ID) any { return (*identifier)(id) }

// ScanID reads an id from a row of one column.
func ScanID(row Row) (id store.ID, err error) {
	err = row.Scan(ID(&id))
	return id, err
}

// ScanText reads a text from a row of one column, which is not NULL.
func ScanText(row Row) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// identifier is the destination that [ID] returns.
type identifier store.ID

// Scan implements the Scanner of database/sql, which pgx calls too. Both databases pass text.
func (id *identifier) Scan(value any) (err error) {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		*(*store.ID)(id), err = store.ParseID(v)
		return err
	}
	return fmt.Errorf("an id is %T", value)
}

// instant is the destination of a column of times. SQLite keeps microseconds since the
// Unix epoch. NULL and the infinite times of PostgreSQL leave the time as it is.
type instant time.Time

// Scan implements the Scanner of database/sql.
func (at *instant) Scan(value any) error {
	switch v := value.(type) {
	case nil:
	case int64:
		*at = instant(time.UnixMicro(v).UTC())
	case time.Time:
		*at = instant(v.UTC())
	default:
		if value != "infinity" && value != "-infinity" {
			return fmt.Errorf("a time is %T", value)
		}
	}
	return nil
}

// optionalInstant is an [instant] that may be missing. SQLite keeps 0 then.
type optionalInstant time.Time

// Scan implements the Scanner of database/sql.
func (at *optionalInstant) Scan(value any) error {
	if value == int64(0) {
		return nil
	}
	return (*instant)(at).Scan(value)
}
