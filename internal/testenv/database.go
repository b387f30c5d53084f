package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// sharedPostgres is the server that the test binary's [Database] calls share.
// It listens on a unix socket alone, and ends with the test binary.
var sharedPostgres = sync.OnceValues(func() (*Postgres, error) { return newPostgres("", newCluster, nil) })

// Database returns the URL of a database that is empty and belongs to this test
// alone; it is dropped at the test's end. The server is shared by the test
// binary, or the one that SYSTEM_KEYS_TEST_POSTGRES names.
func Database(tb testing.TB) string {
	tb.Helper()
	server := os.Getenv("SYSTEM_KEYS_TEST_POSTGRES")
	if server == "" {
		shared, err := sharedPostgres()
		if err != nil {
			tb.Fatalf("start PostgreSQL: %v", err)
		}
		server = shared.DSN("postgres")
	}
	// The test's own context ends before its cleanups run.
	ctx := context.WithoutCancel(tb.Context())
	name, err := createDatabase(ctx, server)
	if err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := dropDatabase(ctx, server, name); err != nil {
			tb.Errorf("drop the database: %v", err)
		}
	})
	u, err := url.Parse(server)
	if err != nil { // createDatabase has parsed it
		tb.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func createDatabase(ctx context.Context, server string) (string, error) {
	name := "test_" + strings.ToLower(rand.Text())
	// Nobody can be connected to template0, so that it can always be copied. To copy its
	// files takes a third of the time that logging each page does, where nothing is fsynced.
	return name, execute(ctx, server, "CREATE DATABASE "+name+" TEMPLATE template0 STRATEGY file_copy")
}

func dropDatabase(ctx context.Context, server, name string) error {
	return execute(ctx, server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

func execute(ctx context.Context, server, statement string) (err error) {
	if _, err := url.Parse(server); err != nil || !strings.Contains(server, "://") {
		return errors.New("SYSTEM_KEYS_TEST_POSTGRES is not a URL (postgres://…)")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
