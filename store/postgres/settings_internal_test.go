package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestThePoolHasDefaultsThatTheDSNOverrides(t *testing.T) {
	t.Parallel()
	type settings struct {
		MaxConns       int32
		ConnectTimeout time.Duration
		Mode           pgx.QueryExecMode
		Name           string
	}
	for dsn, want := range map[string]settings{
		"postgres://db/lumio": {8, 3 * time.Second, pgx.QueryExecModeCacheDescribe, "caddy-system-keys"},
		"postgres://db/lumio?pool_max_conns=3&connect_timeout=7&default_query_exec_mode=exec&application_name=x": {
			3, 7 * time.Second, pgx.QueryExecModeExec, "x",
		},
		"host=db pool_max_conns=40": {40, 3 * time.Second, pgx.QueryExecModeCacheDescribe, "caddy-system-keys"},
	} {
		s, err := Open(t.Context(), dsn, Options{})
		if err != nil {
			t.Fatal(err)
		}
		config := s.pool.Config()
		got := settings{
			config.MaxConns, config.ConnConfig.ConnectTimeout, config.ConnConfig.DefaultQueryExecMode,
			config.ConnConfig.RuntimeParams["application_name"],
		}
		if got != want {
			t.Errorf("%s: settings = %+v, want %+v", dsn, got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
