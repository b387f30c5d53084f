package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// dialTimeout bounds one attempt to connect. The attempt goes on in the background when
// the call that wanted the connection has timed out. If connecting takes longer than a
// call may, as TLS to a distant server can, a later call finds the connection made.
const dialTimeout = 250 * time.Millisecond

// silence turns off the log of the client library, which goes to standard error and is
// global to the process. Everything in it also comes back as an error.
var silence = sync.OnceFunc(logging.Disable)

// connections returns how many connections a client may have to each node: the number in
// the URL, or the default of the library.
func connections(t *target) int {
	if n, err := strconv.Atoi(t.parameters[poolSize]); err == nil && n > 0 {
		return n
	}
	return 10 * runtime.GOMAXPROCS(0)
}

// checkTLS refuses options that contradict the URLs.
func (o Options) checkTLS(t *target) error {
	unverified, _ := strconv.ParseBool(t.parameters[skipVerify])
	switch {
	case o.RootCAs != nil && t.scheme != "rediss":
		return errors.New("redis: a ca goes with rediss:// only")
	case o.Certificate != nil && t.scheme != "rediss":
		return errors.New("redis: a client certificate goes with rediss:// only")
	case o.RootCAs != nil && unverified:
		return fmt.Errorf("redis: a ca does not go with %s", skipVerify)
	}
	return nil
}

// tls is the configuration of TLS for a target. Without a ServerName, each certificate is
// checked for the name of its own host.
func (o Options) tls(t *target) *tls.Config {
	if t.scheme != "rediss" {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}
	config.InsecureSkipVerify, _ = strconv.ParseBool(t.parameters[skipVerify])
	if o.Certificate != nil {
		config.Certificates = []tls.Certificate{*o.Certificate}
	}
	return config
}

// newClient makes the client for a target. It connects when it is first used.
func newClient(t *target, opts Options) redis.UniversalClient {
	silence()
	timeout := opts.Timeout
	o := &redis.UniversalOptions{
		Addrs:            t.addrs,
		Username:         t.username,
		Password:         t.password,
		DB:               t.db,
		ClientName:       t.parameters[clientName],
		MasterName:       t.parameters[masterName],
		SentinelUsername: t.parameters[sentinelUsername],
		SentinelPassword: t.parameters[sentinelPassword],

		// Without this option the library ignores the deadline of a call's context. If
		// the server hangs, a call takes the library's default of 5 s, four times.
		ContextTimeoutEnabled: true,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout,
		PoolSize:              connections(t),
		DialTimeout:           max(dialTimeout, timeout),
		// Nothing is retried here, since the breaker decides when Redis is tried again.
		// The defaults are 3 retries of a call, and 5 of a connection, 100 ms apart.
		MaxRetries:      -1,
		DialerRetries:   1,
		MinRetryBackoff: -1,
		MaxRetryBackoff: -1,

		// Each of these features would cost a new connection a round trip and bring
		// nothing: protocol 2 is enough for GET and SET, and there are no pipelines.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PipelinePoolSize:         -1,
		// Values are small. The default is 32 KiB for each direction of a connection.
		ReadBufferSize:  4096,
		WriteBufferSize: 4096,

		TLSConfig: opts.tls(t),
	}
	switch {
	case o.MasterName != "":
		return redis.NewFailoverClient(o.Failover())
	case t.cluster():
		cluster := o.Cluster()
		// The policies need the table of all commands, which is fetched before
		// the first call with a timeout of 5 s that no option changes.
		cluster.DisableRoutingPolicies = true
		return redis.NewClusterClient(cluster)
	default:
		return redis.NewClient(o.Simple())
	}
}
