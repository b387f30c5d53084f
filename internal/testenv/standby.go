package testenv

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// StartStandby starts a standby that streams from the server, for this test alone,
// and ends it with the test. No commit of the primary waits for it as it is: see
// [Postgres.Synchronous].
func StartStandby(tb testing.TB, primary *Postgres, opts ...Option) *Postgres {
	tb.Helper()
	return startPostgres(tb, func(data string, cred *syscall.Credential) error {
		backup, err := program("pg_basebackup")
		if err != nil {
			return err
		}
		cmd := exec.Command(backup, "--pgdata="+data, "--dbname="+primary.DSN("postgres"),
			"--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
		}
		return nil
	}, opts)
}

// Synchronous has every commit of the server wait for a standby, from when it
// returns on.
func (p *Postgres) Synchronous() {
	p.tb.Helper()
	p.statement("ALTER SYSTEM SET synchronous_standby_names = '*'")
	p.statement("SELECT pg_reload_conf()")
	p.await("waits for its standby", "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'")
}

// Promote makes a primary of a standby, and returns when it is one.
func (p *Postgres) Promote() {
	p.tb.Helper()
	p.statement("SELECT pg_promote()")
	p.await("is a primary", "SELECT NOT pg_is_in_recovery()")
}

func (p *Postgres) statement(sql string) {
	p.tb.Helper()
	p.must("run "+sql+" on", p.with(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	}))
}

// await waits until a question is answered with true.
func (p *Postgres) await(what, sql string) {
	p.tb.Helper()
	err := p.with(func(ctx context.Context, conn *pgx.Conn) error {
		for yes := false; !yes; {
			if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil {
				return err
			}
		}
		return nil
	})
	p.must("wait until it "+what+", ", err)
}

func (p *Postgres) with(do func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(ctx, conn)
}
