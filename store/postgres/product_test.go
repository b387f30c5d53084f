package postgres_test

import (
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestAServerThatOnlySpeaksTheProtocolIsRefused has PostgreSQL say that it is another server.
// That one cannot be had here.
func TestAServerThatOnlySpeaksTheProtocolIsRefused(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"CockroachDB CCL v24.3.5 (x86_64-pc-linux-gnu, built 2025/02/03 17:28:15, go1.22.8)": "the server is CockroachDB,",
		"PostgreSQL 15.2-YB-2025.1.0.0-b168 on x86_64-pc-linux-gnu, compiled by clang":       "the server is YugabyteDB,",
	} {
		dsn := testenv.Database(t)
		execute(t, dsn, "CREATE SCHEMA theirs")
		execute(t, dsn, "CREATE FUNCTION theirs.version() RETURNS text LANGUAGE sql AS $$ SELECT '"+version+"' $$")
		dsn = searching(t, dsn, "theirs,pg_catalog,public")
		refusedAs(t, open(t, dsn), want)
		refusedAs(t, openIn(t, dsn, oddName), want)
	}
}

// TestADatabaseWithoutALanguageForTriggersIsRefused lacks what Aurora DSQL lacks, which says
// that it is PostgreSQL 16.
func TestADatabaseWithoutALanguageForTriggersIsRefused(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	execute(t, dsn, "DROP EXTENSION plpgsql")
	refusedAs(t, open(t, dsn), "Aurora DSQL")
}
