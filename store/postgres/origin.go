package postgres

import (
	"context"
	"slices"
)

// origins are what names a server's history, as an expression, the best first: a
// database cluster that was copied has the same identifier, and another timeline
// once it was promoted. A server may keep these functions from a plain role, or not
// have them. If nothing can be named, the place in the log has to do, and who follows
// says so.
var origins = []string{
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE (SELECT system_identifier FROM pg_control_system())::text " +
		"|| '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"''",
}

// unnameable are the codes of a server that does not let itself be named so.
var unnameable = []string{insufficientPrivilege, featureNotSupported, undefinedFunction}

// origin returns the best of the origins that this role may ask for. All parts
// of the store use the same.
func (s *Store) origin(ctx context.Context, db querier) (string, error) {
	if known := s.origins.Load(); known != nil {
		return *known, nil
	}
	for _, expression := range origins {
		var value string
		err := db.QueryRow(ctx, "SELECT "+expression).Scan(&value)
		if slices.Contains(unnameable, code(err)) {
			continue
		}
		if err != nil {
			return "", err
		}
		s.origins.CompareAndSwap(nil, &expression)
		break
	}
	return *s.origins.Load(), nil
}
