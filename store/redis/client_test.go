package redis

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// limits are the options without which a call can outlast its timeout.
type limits struct {
	ContextTimeoutEnabled                       bool
	Dial, Read, Write, Pool, RetryMin, RetryMax time.Duration
	Retries, DialerRetries                      int
}

// The library copies options from one kind of client to another, and could
// forget one.
func TestEveryClientHasTheLimits(t *testing.T) {
	t.Parallel()
	const timeout = 70 * time.Millisecond
	want := limits{
		ContextTimeoutEnabled: true,
		Dial:                  dialTimeout, Read: timeout, Write: timeout, Pool: timeout,
		DialerRetries: 1,
	}
	for name, urls := range map[string]string{
		"a node":    "redis://a",
		"a socket":  "unix:///a",
		"sentinels": "redis://a?master_name=m redis://b",
		"a cluster": "redis://a redis://b",
		"a seed":    "redis://a?cluster=true",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, err := parseURLs(strings.Fields(urls))
			if err != nil {
				t.Fatal(err)
			}
			client := newClient(target, Options{Timeout: timeout})
			t.Cleanup(func() { _ = client.Close() })
			if diff := cmp.Diff(want, limitsOf(t, client)); diff != "" {
				t.Errorf("want(-) got(+):\n%s", diff)
			}
		})
	}
}

func limitsOf(t *testing.T, client redis.UniversalClient) limits {
	t.Helper()
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		return limits{
			o.ContextTimeoutEnabled,
			o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout, o.MinRetryBackoff, o.MaxRetryBackoff,
			o.MaxRetries, o.DialerRetries,
		}
	case *redis.ClusterClient:
		o := c.Options()
		return limits{
			o.ContextTimeoutEnabled,
			o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout, o.MinRetryBackoff, o.MaxRetryBackoff,
			max(0, o.MaxRetries), o.DialerRetries, // -1 until it makes the nodes' clients
		}
	}
	t.Fatalf("what is a %T?", client)
	return limits{}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct{ tls, unverified bool }{
		"redis://a":                    {false, false},
		"rediss://a":                   {true, false},
		"rediss://a?skip_verify=false": {true, false},
		"rediss://a?skip_verify=true":  {true, true},
	} {
		target, err := parseURLs([]string{url})
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(target, Options{Timeout: time.Second}).(*redis.Client)
		config := client.Options().TLSConfig
		_ = client.Close()
		if (config != nil) != want.tls || config != nil && config.InsecureSkipVerify != want.unverified {
			t.Errorf("%s: the TLS configuration is %+v", url, config)
		}
	}
}
