package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func TestCacheInACluster(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	// One seed does not exist; the others know the rest.
	cache := newCache(t, redis.Options{}, "redis://"+servers[0].Addr(), "redis://"+servers[1].Addr(), "redis://127.0.0.1:1")
	for i := range 50 { // enough to meet every server
		key := fmt.Sprint("k", i)
		mustSet(t, cache, key, "v")
		wantValue(t, cache, key, "v")
	}
	for i, server := range servers {
		if slices.Contains(commands(t, server), "command") {
			t.Errorf("server %d was asked for the table of all commands", i)
		}
		if got := client(t, server.URL()).DBSize(t.Context()).Val(); got == 0 {
			t.Errorf("server %d holds no key", i)
		}
	}
}

// TestOneServerOfAClusterIsEnough names one server only: the others are asked too.
func TestOneServerOfAClusterIsEnough(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	cache := newCache(t, redis.Options{}, "redis://"+servers[2].Addr()+"?cluster=true")
	for i := range 50 { // enough to meet every server
		key := fmt.Sprint("k", i)
		mustSet(t, cache, key, "v")
		wantValue(t, cache, key, "v")
	}
	for i, server := range servers {
		if got := client(t, server.URL()).DBSize(t.Context()).Val(); got == 0 {
			t.Errorf("server %d holds no key", i)
		}
	}
}

func TestAClusterThatIsHaltedDoesNotHoldCallsUp(t *testing.T) {
	t.Parallel()
	for when, connected := range map[string]bool{"connected": true, "not yet connected": false} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			servers := startCluster(t)
			cache := newCache(t, redis.Options{Timeout: 100 * time.Millisecond, Cooldown: time.Second},
				"redis://"+servers[0].Addr(), "redis://"+servers[1].Addr(), "redis://"+servers[2].Addr())
			if connected {
				awaitAnswer(t, cache)
			}
			for _, server := range servers {
				server.Pause()
			}
			opens(t, cache)
			for _, server := range servers {
				server.Resume()
			}
			awaitAnswer(t, cache)
		})
	}
}

// clustered makes a server one that a cluster can have. The others go on without it for longer
// than a test lasts.
var clustered = []testenv.Option{testenv.Setting("cluster-enabled", "yes"), testenv.Setting("cluster-node-timeout", "60000")}

// startCluster makes a cluster of three masters.
func startCluster(t *testing.T, opts ...testenv.Option) []*testenv.Redis {
	t.Helper()
	servers := make([]*testenv.Redis, 3)
	nodes := make([]*goredis.Client, len(servers))
	for i := range servers {
		servers[i] = testenv.StartRedis(t, slices.Concat(clustered, opts)...)
		nodes[i] = client(t, servers[i].SocketURL())
		const slots = 16384
		first, last := i*slots/len(servers), (i+1)*slots/len(servers)-1
		if err := nodes[i].ClusterAddSlotsRange(t.Context(), first, last).Err(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			host, port, _ := strings.Cut(servers[0].Addr(), ":")
			if err := nodes[i].ClusterMeet(t.Context(), host, port).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the servers are one cluster", func() bool {
		for _, node := range nodes {
			info := node.ClusterInfo(t.Context()).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_size:3") {
				return false
			}
		}
		return true
	})
	return servers
}

func TestCacheAsksSentinelsForTheMaster(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, testenv.Setting("requirepass", "hunter2"))
	sentinel := testenv.StartSentinel(t, "primary", master)
	cache := newCache(t, redis.Options{},
		"redis://:hunter2@"+sentinel.Addr()+"/3?master_name=primary", "redis://127.0.0.1:1")
	mustSet(t, cache, "k", "v")
	wantValue(t, cache, "k", "v")
	if got := client(t, master.URL()+"/3").Get(context.WithoutCancel(t.Context()), "k").Val(); got != "v" {
		t.Errorf("in the master's database 3 the key is %q", got)
	}
}

func TestCacheFollowsAFailover(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	host, port, _ := strings.Cut(master.Addr(), ":")
	replica := testenv.StartRedis(t, testenv.Setting("replicaof", host+" "+port))
	sentinel := testenv.StartSentinel(t, "primary", master)
	eventually(t, "the sentinel knows the replica", func() bool {
		c := goredis.NewSentinelClient(&goredis.Options{Addr: sentinel.Addr()})
		defer c.Close()
		replicas, err := c.Replicas(t.Context(), "primary").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	cache := newCache(t, redis.Options{Timeout: 500 * time.Millisecond, Cooldown: 50 * time.Millisecond},
		"redis://"+sentinel.Addr()+"?master_name=primary")
	awaitAnswer(t, cache)

	c := goredis.NewSentinelClient(&goredis.Options{Addr: sentinel.Addr()})
	defer c.Close()
	if err := c.Failover(t.Context(), "primary").Err(); err != nil {
		t.Fatal(err)
	}
	plain := client(t, replica.URL())
	eventually(t, "the cache writes to the new master", func() bool {
		_ = cache.Set(t.Context(), "after", []byte("v"), time.Hour)
		return plain.Get(t.Context(), "after").Val() == "v" &&
			strings.Contains(plain.Info(t.Context(), "replication").Val(), "role:master")
	})
}

func TestSentinelsThatAreHaltedDoNotHoldCallsUp(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	sentinel := testenv.StartSentinel(t, "primary", master)
	cache := newCache(t, redis.Options{Timeout: 100 * time.Millisecond, Cooldown: time.Second},
		"redis://"+sentinel.Addr()+"?master_name=primary")
	sentinel.Pause()
	opens(t, cache)
	sentinel.Resume()
	awaitAnswer(t, cache)

	master.Pause()
	opens(t, cache)
	master.Resume()
	awaitAnswer(t, cache)
}

// complain makes calls that fail, on the URLs given.
func complain(urls string) {
	cache, err := redis.New(strings.Fields(urls), redis.Options{Cooldown: time.Millisecond})
	if err != nil {
		panic(err)
	}
	for range 50 {
		if err := ask(context.Background(), cache); err == nil {
			panic("there is an answer")
		} else if errors.Is(err, redis.ErrUnavailable) {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if err := cache.Close(); err != nil {
		panic(err)
	}
}
