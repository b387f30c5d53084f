package redis

import (
	"crypto/tls"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// dialTimeout is how long the making of a connection may go on behind the back
// of the call that wanted it. Where it takes longer than a call's own timeout,
// as TLS to a distant server may, the next call finds the connection made.
const dialTimeout = 250 * time.Millisecond

// The client library writes to standard error by default, and there is one
// logger for the whole process. All that it reports comes back as an error too.
var silence = sync.OnceFunc(logging.Disable)

// connections is how many a client has at most, to each node: what the URL says, or
// the library's default.
func connections(t *target) int {
	if n, err := strconv.Atoi(t.parameters[poolSize]); err == nil && n > 0 {
		return n
	}
	return 10 * runtime.GOMAXPROCS(0)
}

// newClient makes the client for a target. It connects when it is first used.
func newClient(t *target, timeout time.Duration) redis.UniversalClient {
	silence()
	o := &redis.UniversalOptions{
		Addrs:            t.addrs,
		Username:         t.username,
		Password:         t.password,
		DB:               t.db,
		ClientName:       t.parameters[clientName],
		MasterName:       t.parameters[masterName],
		SentinelUsername: t.parameters[sentinelUsername],
		SentinelPassword: t.parameters[sentinelPassword],

		// Without this the library ignores the deadline of a call's context: a
		// call on a server that is halted takes its default of 5 s, four times.
		ContextTimeoutEnabled: true,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout,
		PoolSize:              connections(t),
		DialTimeout:           max(dialTimeout, timeout),
		// The breaker decides what is tried again. The defaults are 3 retries of
		// a call, and 5 of a connection with 100 ms between them.
		MaxRetries:      -1,
		DialerRetries:   1,
		MinRetryBackoff: -1,
		MaxRetryBackoff: -1,

		// Each would cost a new connection a round trip, for nothing: the second
		// protocol is enough for GET and SET, and there are no pipelines.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PipelinePoolSize:         -1,
		// Values are small; the default is 32 KiB for each connection and way.
		ReadBufferSize:  4096,
		WriteBufferSize: 4096,
	}
	if t.scheme == "rediss" {
		// Without a ServerName, each host's certificate is checked for its own.
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		o.TLSConfig.InsecureSkipVerify, _ = strconv.ParseBool(t.parameters[skipVerify])
	}
	switch {
	case o.MasterName != "":
		return redis.NewFailoverClient(o.Failover())
	case len(o.Addrs) > 1:
		cluster := o.Cluster()
		// The policies need the table of all commands, which is fetched before
		// the first call with a timeout of 5 s that no option changes.
		cluster.DisableRoutingPolicies = true
		return redis.NewClusterClient(cluster)
	default:
		return redis.NewClient(o.Simple())
	}
}
