// Package postgres keeps system keys in a PostgreSQL database, which any number of instances
// share. It needs PostgreSQL 13 or later.
//
// The table system_keys has types that other services can read and write in plain SQL. Its
// constraints refuse values that would not work, and its triggers update the tables that
// this package derives from it. Only the role that migrates has rights to those other
// tables, and roles to which it grants them. [Options] says in which schemas the tables
// are; several stores fit one database.
//
// If a context ends while a statement runs, pgx closes that statement's connection. The
// pool opens another one when it is needed.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// maxConns is the size of the pool unless the DSN sets pool_max_conns.
	maxConns = 8
	// maxIdle is how long a connection of the pool stays open without use unless the DSN
	// sets pool_max_conn_idle_time, and idleCheck how often the pool looks unless it sets
	// pool_health_check_period. An instance at rest keeps the connection that listens.
	maxIdle   = 30 * time.Second
	idleCheck = 15 * time.Second
	// connectTimeout bounds one attempt to connect unless the DSN or the environment sets
	// another bound.
	connectTimeout = 3 * time.Second
	// applicationName shows in pg_stat_activity unless the DSN sets another.
	applicationName = "caddy-system-keys"
)

// Store is a [store.Store] in a PostgreSQL database. See [Open].
type Store struct {
	// pool serves all calls but those of feeds, which have a connection each.
	pool *pgxpool.Pool
	// migrations are the built-in ones, except in tests.
	migrations sqlstore.Migrations
	schema     string // or empty; see [Options]
	logger     *slog.Logger
	// found is nil until a first call has found the tables and has checked the server.
	found atomic.Pointer[database] // see [Store.database]
	// closed keeps new feeds from opening. The pool refuses all other calls itself.
	closed  atomic.Bool
	follows atomic.Bool // a table of another service, by the last view
	// backlog bounds how often the log says that last uses do not flow back.
	backlog rate.Sometimes
	// seen is the history that a feed has seen last. Calls compare the server with it.
	seen  store.Seen
	calls observe.Calls
	// poolOrigin is the origin that the pool's connections were last renewed for.
	poolOrigin atomic.Pointer[string]
}

// Options say where in a database a store is.
type Options struct {
	// Schema has the table system_keys and everything else of the store. It is created if
	// it does not exist. If Schema is empty, system_keys is in the schema that the DSN led to
	// when the store was made, and everything else in the schema sidecar.
	Schema string
	// Logger logs how far a long migration is, and that last uses do not flow back to a table
	// that is followed. Nil logs nothing.
	Logger *slog.Logger
}

// Open prepares a pool of connections to the database that the DSN names. A DSN is a
// postgres:// URL or has libpq's key=value form, and takes the options of pgxpool
// (pool_max_conns and so on). Settings that are left out come from the environment
// (PGPASSWORD, PGPASSFILE).
//
// Open does not connect: the server need not run yet. As long as it does not, statements
// fail. The only errors are about the DSN and the schema, and none repeats a part of the
// DSN. Call [Store.Migrate] next.
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	if o.Schema != "" {
		if err := CheckSchema(o.Schema); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := CheckDSN(dsn); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", explainDSN(err))
	}
	// pgxpool removes its own options from what it has parsed.
	plain, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", explainDSN(err))
	}
	if _, set := plain.RuntimeParams["pool_max_conns"]; !set {
		config.MaxConns = maxConns
	}
	if _, set := plain.RuntimeParams["pool_max_conn_idle_time"]; !set {
		config.MaxConnIdleTime = maxIdle
	}
	if _, set := plain.RuntimeParams["pool_health_check_period"]; !set {
		config.HealthCheckPeriod = idleCheck
	}
	conn := config.ConnConfig
	if _, set := plain.RuntimeParams["default_query_exec_mode"]; !set {
		// This mode has no named statements. They do not work behind a pooler such as
		// PgBouncer, and the server may plan them without looking at the arguments.
		conn.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	conn.OnNotice = onNotice
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = applicationName
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	now := time.Now //nolint:forbidigo // how long calls take
	return &Store{
		pool: pool, migrations: migrations, schema: o.Schema, logger: o.Logger,
		backlog: rate.Sometimes{First: 1, Interval: time.Minute}, calls: observe.OfStore("postgresql", now),
	}, nil
}

// Observe implements [observe.Observed].
func (s *Store) Observe(meter observe.Meter) { s.calls.Observe(meter) }

// call begins a call that is measured. End also turns the error of pgx into an error of the
// contract; see [explain]. Operation names the call for traces and meters, and what names it in
// errors.
func (s *Store) call(ctx context.Context, operation, what string) (_ context.Context, end func(err *error)) {
	ctx, measured := s.calls.Begin(ctx, operation)
	return ctx, func(err *error) {
		*err = explain(what, *err)
		measured(err)
	}
}

// Close implements [store.Store]. It waits until all connections have come back to the pool.
// Calls after that return [store.ErrClosed].
func (s *Store) Close() error {
	s.closed.Store(true)
	s.pool.Close()
	return nil
}

// collect returns all rows of a query. An error of scan ends the reading and is returned.
// Without rows the slice is empty.
func collect[T any](
	ctx context.Context, db *database, scan func(row sqlstore.Row) (T, error), statement string, args ...any,
) ([]T, error) {
	rows, _ := db.Query(ctx, statement, args...) // the rows return its error
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) { return scan(row) })
}

var (
	_ store.Store      = (*Store)(nil)
	_ observe.Observed = (*Store)(nil)
)
