package testenv_test

import (
	"net/url"
	"path/filepath"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestServersOfAProgram(t *testing.T) {
	t.Parallel()
	servers, err := testenv.StartServers(testenv.Setting("max_connections", "7"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := servers.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two, err := servers.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, connect(t, one), "CREATE TABLE mine (n int)")
	other := connect(t, two)
	if got := number(t, other, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != 0 {
		t.Errorf("the second database has %d tables, want 0", got)
	}
	if got := number(t, other, "SELECT setting::int FROM pg_settings WHERE name = 'max_connections'"); got != 7 {
		t.Errorf("max_connections = %d, want 7", got)
	}
	redis, err := url.Parse(servers.RedisURL())
	if err != nil {
		t.Fatal(err)
	}
	if err := servers.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	awaitNobody(t, filepath.Dir(redis.Path))
	for _, folder := range foldersOf(t, []string{one}) {
		awaitNobody(t, folder)
	}
}
