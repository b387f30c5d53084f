package testenv_test

import (
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestSentinelKnowsItsMaster(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	sentinel := testenv.StartSentinel(t, "primary", master)
	client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	got, err := client.GetMasterAddrByName(t.Context(), "primary").Result()
	if err != nil {
		t.Fatal(err)
	}
	if addr := net.JoinHostPort(got[0], got[1]); addr != master.Addr() {
		t.Errorf("the sentinel says %s, want %s", addr, master.Addr())
	}
}
