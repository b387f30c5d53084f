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
		MaxIdle, Check time.Duration
		ConnectTimeout time.Duration
		Mode           pgx.QueryExecMode
		Name           string
	}
	for dsn, want := range map[string]settings{
		"postgres://db/lumio": {8, 30 * time.Second, 15 * time.Second, 3 * time.Second, pgx.QueryExecModeCacheDescribe, "caddy-system-keys"},
		"postgres://db/lumio?pool_max_conns=3&pool_max_conn_idle_time=1h&pool_health_check_period=1m" +
			"&connect_timeout=7&default_query_exec_mode=exec&application_name=x": {
			3, time.Hour, time.Minute, 7 * time.Second, pgx.QueryExecModeExec, "x",
		},
		"host=db pool_max_conns=40": {40, 30 * time.Second, 15 * time.Second, 3 * time.Second, pgx.QueryExecModeCacheDescribe, "caddy-system-keys"},
	} {
		s, err := Open(t.Context(), dsn, Options{})
		if err != nil {
			t.Fatal(err)
		}
		config := s.pool.Config()
		got := settings{
			config.MaxConns, config.MaxConnIdleTime, config.HealthCheckPeriod, config.ConnConfig.ConnectTimeout, config.ConnConfig.DefaultQueryExecMode,
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
