package postgres_test

import (
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

func TestADSNThatCannotBeParsedIsNotRepeated(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://lumio:hunter2%zz@db.internal/lumio":                     "URL",
		"postgres://lumio:hunter2@db.internal:port/lumio":                   "invalid port",
		"postgres://lumio:hun/ter2#@db.internal:5432/lumio":                 "invalid port",
		"postgres://lumio:hunter2@db.internal:99999999/lumio":               "invalid port",
		"postgres://lumio:hunter2@db.internal/lumio?sslmode=hunter2":        "sslmode is invalid",
		"postgres://lumio:hunter2@db.internal/lumio?pool_max_conns=hunter2": "pool_max_conns",
		"postgres://lumio:hunter2@db.internal/lumio?connect_timeout=soon":   "connect_timeout",
		"postgres://lumio:hunter2@db.internal/lumio?sslrootcert=/hunter2":   "TLS",
		"host=db.internal password='hunter2":                                "keyword/value",
		"password hunter2":                                                  "keyword/value",
		"hunter2":                                                           "keyword/value",
	} {
		s, err := postgres.Open(t.Context(), dsn)
		if err == nil {
			t.Errorf("a broken DSN was accepted (%v)", s.Close())
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error = %q, want one about %q", dsn, err, want)
		}
		for _, secret := range []string{"hunter2", "hun/ter2", "ter2", "db.internal"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error repeats %q: %q", secret, err)
			}
		}
	}
}

func TestAServerThatCannotBeReachedIsNamedWithoutThePassword(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres://lumio:hunter2@127.0.0.1:1/lumio?sslmode=disable")
	_, err := s.Key(t.Context(), store.ID{1})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error = %v, want the address and no password", err)
	}
}
