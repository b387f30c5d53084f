package testenv

import (
	"context"
	"errors"
	"fmt"
)

// Servers are a PostgreSQL and a Redis of a program that is no test, because it
// measures. They end with the process, however that ends, as those of tests do.
type Servers struct {
	postgres *Postgres
	redis    *Redis
}

// StartServers starts both on unix sockets alone. The options are PostgreSQL's.
func StartServers(opts ...Option) (*Servers, error) {
	postgres, err := newPostgres("", newCluster, opts)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	redis, err := newRedis("", nil, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Redis: %w", err), postgres.server.close())
	}
	return &Servers{postgres: postgres, redis: redis}, nil
}

// Database creates an empty database and returns its URL. It lasts as long as the
// server.
func (s *Servers) Database(ctx context.Context) (string, error) {
	name, err := createDatabase(ctx, s.postgres.DSN("postgres"))
	if err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	return s.postgres.DSN(name), nil
}

// RedisURL is the address of Redis. Whoever asks gets the same database.
func (s *Servers) RedisURL() string { return s.redis.SocketURL() }

// Close ends both at once, and removes their folders.
func (s *Servers) Close() error {
	return errors.Join(s.postgres.server.close(), s.redis.server.close())
}
