package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// filledSince is when the first key that fill makes was created. The others follow
// at intervals of a second, all of them before today.
var filledSince = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// fill makes so many keys that nobody has: Argon2id for a million would take hours.
// Key i is called "service M worker X", where M is i mod 1000 and X is i in hex.
func (p *place) fill(ctx context.Context, n int) error {
	if p.driver == "sqlite" {
		return fillSQLite(ctx, p.source, n)
	}
	return fillPostgres(ctx, p.source, n)
}

func fillSQLite(ctx context.Context, file string, n int) (err error) {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `
WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
INSERT INTO system_keys (id, label, permissions, key_hash, created_at, last_used_at, minted)
SELECT lower(format('%s-%s-7%s-8%s-%s', hex(randomblob(4)), hex(randomblob(2)), substr(hex(randomblob(2)), 2),
        substr(hex(randomblob(2)), 2), hex(randomblob(6)))),
    format('service %d worker %08x', i % 1000, i),
    format('["area-%d:read","area-%d:write"]', i % 1000, i % 1000),
    '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$' || hex(randomblob(21)),
    ?2 + i * 1000000, ?2 + i * 7919 % ?1 * 1000000, true
FROM n`, n, filledSince.UnixMicro())
	return err
}

func fillPostgres(ctx context.Context, dsn string, n int) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, `
INSERT INTO system_keys (id, label, permissions, key_hash, created_at, last_used_at, minted)
SELECT gen_random_uuid(), format('service %s worker %s', i % 1000, lpad(to_hex(i), 8, '0')),
    ARRAY[format('area-%s:read', i % 1000), format('area-%s:write', i % 1000)],
    '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$' || md5(i::text), $2::timestamptz + i * interval '1 second',
    $2::timestamptz + i * 7919::bigint % $1 * interval '1 second', true
FROM generate_series(0, $1::int - 1) AS i`, n, filledSince)
	if err != nil {
		return err
	}
	for _, table := range []string{"system_keys", "sidecar.label_search"} { // as autovacuum does in time
		if _, err := conn.Exec(ctx, "VACUUM ANALYZE "+table); err != nil {
			return err
		}
	}
	return nil
}
