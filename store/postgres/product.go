package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// checkServer refuses servers that a store does not work on, and names them. Else the error
// would be about the first statement that such a server does not know.
//
// It runs in a transaction, since PgBouncer refuses one in its statement mode. The transaction
// has no settings, since another server may not know them.
func (s *Store) checkServer(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var name string
		if err := tx.QueryRow(ctx, "SELECT version()").Scan(&name); err != nil {
			return err
		}
		if product := productOf(name); product != "PostgreSQL" {
			return refuse("the server is %.40s, and a store needs PostgreSQL: "+
				"it needs LISTEN, advisory locks, deferred triggers and PL/pgSQL as they are there", product)
		}
		// The version as a number, such as 160002, is in every PostgreSQL since 8.2.
		var version int
		var procedural bool
		err := tx.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, "+
			"EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql')").Scan(&version, &procedural)
		if err != nil {
			return err
		}
		return supported(version, procedural)
	})
}

// products are servers whose version() begins as that of PostgreSQL, by what else is in it.
//
//   - "PostgreSQL 15.2-YB-2025.1.0.0-b168 on x86_64-pc-linux-gnu, compiled by clang …"
//   - "PostgreSQL 13.14.0-RisingWave-2.3.2 (58c5893…)"
//   - "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC …, Redshift 1.0.47470"
//   - "PostgreSQL 14.4 (Apache Cloudberry 2.0.0 build 1) on x86_64-pc-linux-gnu …"
var products = []struct{ mark, name string }{
	{"-YB-", "YugabyteDB"},
	{"RisingWave", "RisingWave"},
	{"Redshift", "Amazon Redshift"},
	{"QuestDB", "QuestDB"},
	{"Materialize", "Materialize"},
	{"Greenplum", "Greenplum"},
	{"Cloudberry", "Apache Cloudberry"},
	{"openGauss", "openGauss"},
}

// productOf returns which server says this of its version. The others say it in the first
// word: "CockroachDB CCL v24.3.5 (x86_64-pc-linux-gnu, built …)".
func productOf(version string) string {
	for _, p := range products {
		if strings.Contains(version, p.mark) {
			return p.name
		}
	}
	first, _, _ := strings.Cut(version, " ")
	return first
}

// minVersion is PostgreSQL 13.
const minVersion = 13_00_00

// supported judges a server that says it is PostgreSQL. Aurora DSQL says so, and has neither
// PL/pgSQL nor triggers:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/working-with-postgresql-compatibility-unsupported-features.html
func supported(version int, procedural bool) error {
	switch {
	case version < minVersion:
		return refuse("the server is PostgreSQL %d, and a store needs %d or later", version/1_00_00, minVersion/1_00_00)
	case !procedural:
		return refuse("the database has no PL/pgSQL, and a store needs it (CREATE EXTENSION plpgsql; Aurora DSQL has none, and no triggers)")
	}
	return nil
}
