package postgres

import "context"

// origins are what names a server's history, as an expression, the best first: a
// database cluster that was copied has the same identifier, and another timeline
// once it was promoted. A server may keep these functions from a plain role.
var origins = []string{
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE (SELECT system_identifier FROM pg_control_system())::text " +
		"|| '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
	"''",
}

const insufficientPrivilege = "42501"

// origin returns the best of the origins that this role may ask for. All parts
// of the store use the same.
func (s *Store) origin(ctx context.Context, db querier) (string, error) {
	if known := s.origins.Load(); known != nil {
		return *known, nil
	}
	for _, expression := range origins {
		var value string
		err := db.QueryRow(ctx, "SELECT "+expression).Scan(&value)
		if code(err) == insufficientPrivilege {
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
