package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// TestADeadMasterKeepsNobodyFromTheOthers kills one of three masters. Only its own keys are
// left alone, and the others are asked all the time.
func TestADeadMasterKeepsNobodyFromTheOthers(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	cache := newCache(t, redis.Options{Cooldown: time.Hour}, "redis://"+servers[0].Addr()+"?cluster=true")
	dead, others := split(t, cache, servers[1])

	servers[1].Kill()
	for range 3 {
		_, err := cache.Get(t.Context(), dead[0])
		if err == nil || errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a call on a dead master gives %v", err)
		}
		if err := cache.Set(t.Context(), dead[0], []byte("v"), time.Hour); err == nil || errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a call on a dead master gives %v", err)
		}
	}
	for _, key := range dead {
		if _, err := cache.Get(t.Context(), key); !errors.Is(err, redis.ErrUnavailable) {
			t.Errorf("%s of the dead master gives %v, want %v", key, err, redis.ErrUnavailable)
		}
	}
	for _, key := range others {
		wantValue(t, cache, key, "v")
		mustSet(t, cache, key, "v")
	}
	h := cache.Health()
	if h.Condition != redis.Unreachable || h.Reads != redis.Unreachable || h.Writes != redis.Unreachable || !strings.HasPrefix(h.Error, servers[1].Addr()+": ") {
		t.Errorf("the health is %+v", h)
	}
	if state := cache.State(); state != redis.StateOpen {
		t.Errorf("the state is %s", state)
	}
}

// TestAReplicaTakesOver has a replica become the master of the keys of one that was killed.
// The client is not told, and would not ask for a minute.
func TestAReplicaTakesOver(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	replica := joinCluster(t, servers[1], servers)
	var log syncBuffer
	cache := newCache(t, redis.Options{Cooldown: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))},
		"redis://"+servers[0].Addr()+"?cluster=true")
	dead, _ := split(t, cache, servers[1])
	servers[1].Kill()
	eventually(t, "it is noticed", func() bool {
		_, _ = cache.Get(t.Context(), dead[0])
		return cache.Health().Condition == redis.Unreachable
	})
	if err := client(t, replica.URL()).Do(t.Context(), "CLUSTER", "FAILOVER", "TAKEOVER").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica is asked", func() bool {
		for _, key := range dead {
			if cache.Set(t.Context(), key, []byte("v"), time.Hour) != nil {
				return false
			}
		}
		return true
	})
	if h := cache.Health(); h.Condition != redis.OK || h.Error != "" {
		t.Errorf("the health is %+v", h)
	}
	if text := log.String(); strings.Count(text, "does not answer") != 1 || strings.Count(text, "works again") != 1 {
		t.Errorf("the log is\n%s", text)
	}
}

// split writes keys, and returns those that the server has, and the others.
func split(t *testing.T, cache *redis.Cache, server *testenv.Redis) (its, others []string) {
	t.Helper()
	for i := range 50 {
		key := fmt.Sprint("sk1:", i)
		mustSet(t, cache, key, "v")
		// A server answers with MOVED if another one has the key.
		if client(t, server.SocketURL()).Get(t.Context(), key).Err() == nil {
			its = append(its, key)
		} else {
			others = append(others, key)
		}
	}
	if len(its) == 0 || len(others) == 0 {
		t.Fatalf("the server has %d keys, the others have %d", len(its), len(others))
	}
	return its, others
}

// joinCluster adds a replica of a master, and returns when every server knows it and it has
// the master's data.
func joinCluster(t *testing.T, master *testenv.Redis, servers []*testenv.Redis) *testenv.Redis {
	t.Helper()
	replica := testenv.StartRedis(t, clustered...)
	node := client(t, replica.URL())
	host, port, _ := strings.Cut(master.Addr(), ":")
	id := client(t, master.URL()).ClusterMyID(t.Context()).Val()
	if err := node.ClusterMeet(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica knows its master", func() bool { return node.ClusterReplicate(t.Context(), id).Err() == nil })
	eventually(t, "the replica has the data, and the servers know it", func() bool {
		for _, server := range servers {
			if !strings.Contains(client(t, server.URL()).ClusterInfo(t.Context()).Val(), "cluster_known_nodes:4") {
				return false
			}
		}
		return strings.Contains(node.Info(context.WithoutCancel(t.Context()), "replication").Val(), "master_link_status:up")
	})
	return replica
}
