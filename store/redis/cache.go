// Package redis is a cache of small values in Redis: a node, a cluster, or a master that
// sentinels watch over. The verifier uses it to remember that Argon2id work was done.
// This package does not know what the values mean: its user seals them.
//
// The values may be lost, and Redis may be down. So a call on Redis never takes longer than
// [Options.Timeout]. While Redis keeps failing, a circuit breaker returns
// [ErrUnavailable] at once. Each server of a cluster has a breaker of its own.
//
// # URLs
//
//	redis://[[user]:password@]host[:port][/db]     a node
//	rediss://...                                   the same over TLS
//	unix://[[user]:password@]/path/to.sock[?db=N]  a node's unix socket
//
// Several URLs are the seeds of a cluster, and so is one URL with ?cluster=true: a server
// of a cluster, or its configuration endpoint, knows the others. If the first URL has
// ?master_name=NAME, all URLs are sentinels, also if there is only one. User, password and database are those of the
// master then. Everything in the first URL except the host holds for all URLs, and need
// not be repeated.
//
// Parameters are client_name, cluster, db, pool_size (connections per server; the default is that
// of the client library), master_name, sentinel_username, sentinel_password, and
// skip_verify=true, which turns off the check of the server's certificate. Other
// parameters are refused. That includes timeouts: [Options] alone sets them.
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
)

var (
	// ErrUnavailable means that Redis was not asked, because it has been failing.
	ErrUnavailable = errors.New("redis is unavailable")
	// ErrBusy means that Redis was not asked, because all connections were in use for
	// too long.
	ErrBusy = errors.New("all connections to redis are in use")
)

// maxWaiting is how long a call waits for a free connection. The bound matters if Redis is
// slow, but not so slow that calls fail.
const maxWaiting = time.Second

// Defaults of [Options].
const (
	DefaultTimeout  = 50 * time.Millisecond
	DefaultCooldown = time.Second
)

// Options are the times of a [Cache], its log, and what TLS needs. The zero value means the
// defaults.
type Options struct {
	// Timeout is how long one call on Redis may take. Connecting is part of that. Zero
	// means [DefaultTimeout].
	Timeout time.Duration
	// Cooldown is how long a server is left alone after three reads, or three writes, have
	// failed in a row. Each must have begun after the one before had failed. After the
	// cooldown one call tries again. Zero means [DefaultCooldown].
	Cooldown time.Duration
	// Logger logs when Redis stops and starts to work, and each minute that it does not work.
	// Nil logs nothing.
	Logger *slog.Logger
	// RootCAs are those that may have signed the certificates of the servers, in place of
	// those of the system. Certificate is what this client shows to a server that asks for
	// one. Both go with rediss:// only.
	RootCAs     *x509.CertPool
	Certificate *tls.Certificate
}

// operation is a kind of call. Its text is for errors and for the meter.
type operation string

const (
	reading operation = "get"
	writing operation = "set"
)

// Cache is a cache in Redis. It is safe for concurrent use.
//
// As many calls run at once as there are connections. The others wait for a free
// connection, a second at most ([ErrBusy]). If a server does not answer, they do not wait
// long, since its breaker opens. Waiting does not count as a failure of Redis: if a
// thousand keys reach a fresh instance at once, they must find their cached values, and
// must not open the breaker.
//
// A call that has its connection returns within the timeout of [Options], or at the
// deadline of its context if that is earlier. An error other than [ErrUnavailable] and
// [ErrBusy] means that Redis was asked and did not answer as it should. The error repeats
// nothing that Redis has sent. If the caller goes away (its context is cancelled), that
// does not count as a failure of Redis.
type Cache struct {
	client   redis.UniversalClient
	cluster  *redis.ClusterClient // the client, or nil if Redis is no cluster
	free     *semaphore.Weighted  // one for each connection
	timeout  time.Duration
	cooldown time.Duration
	log      *slog.Logger
	calls    observe.Calls
	close    func() error
	// encrypted says that the connections use TLS.
	encrypted bool

	// whole has the breakers of a Redis that is no cluster. Masters have those of a
	// cluster, by address; whole then is about finding them. See [Cache.owner].
	whole   *server
	mu      sync.Mutex // guards masters
	masters map[string]*server

	reporting sync.Mutex // guards reported and logged
	reported  Health     // as it was logged last
	logged    time.Time
}

// New makes a cache from the URLs of one node, of a cluster, or of sentinels. The package
// documentation describes them. New does not connect. It only checks that each URL is
// well formed, and the error says what is wrong.
func New(urls []string, opts Options) (*Cache, error) {
	t, err := parseURLs(urls)
	if err != nil {
		return nil, err
	}
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Cooldown == 0 {
		opts.Cooldown = DefaultCooldown
	}
	if opts.Timeout < 0 || opts.Cooldown < 0 {
		return nil, errors.New("redis: a timeout or cooldown is negative")
	}
	if err := opts.checkTLS(t); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	now := time.Now //nolint:forbidigo // how long calls take
	client := newClient(t, opts)
	c := &Cache{
		client:   client,
		free:     semaphore.NewWeighted(int64(connections(t))),
		timeout:  opts.Timeout,
		cooldown: opts.Cooldown,
		log:      opts.Logger,
		calls:    observe.OfRedis(now),
		close:    sync.OnceValue(client.Close),

		encrypted: t.scheme == "rediss",
		masters:   make(map[string]*server),
	}
	c.cluster, _ = client.(*redis.ClusterClient)
	c.whole = c.newServer("", "")
	return c, nil
}

// Observe implements [observe.Observed]. Only [Cache.Get] and [Cache.Set] are shown.
func (c *Cache) Observe(meter observe.Meter) { c.calls.Observe(meter) }

// Get returns the value of a key, or nil if there is none. An empty value is not nil.
func (c *Cache) Get(ctx context.Context, key string) (_ []byte, err error) {
	ctx, end := c.calls.Begin(ctx, string(reading))
	defer end(&err)
	return c.get(ctx, key)
}

func (c *Cache) get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := c.do(ctx, reading, key, func(ctx context.Context) error {
		// Not Bytes, whose result shares memory with a string.
		found, err := c.client.Get(ctx, key).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err == nil {
			value = []byte(found)
		}
		return err
	})
	return value, err
}

// Set stores a value. Redis forgets it after ttl, which must be a millisecond or more:
// nothing is kept for ever.
func (c *Cache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) (err error) {
	ctx, end := c.calls.Begin(ctx, string(writing))
	defer end(&err)
	return c.set(ctx, key, value, ttl)
}

func (c *Cache) set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl < time.Millisecond {
		return errors.New("redis set: the time to live is under a millisecond")
	}
	return c.do(ctx, writing, key, func(ctx context.Context) error {
		return c.client.Set(ctx, key, value, ttl).Err()
	})
}

// Close closes the connections. Running calls may fail. Close can be called more than
// once.
func (c *Cache) Close() error { return c.close() }

// takeConnection waits until a connection is free, and reserves it. If there is no error, the
// caller must release c.free.
func (c *Cache) takeConnection(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.free.TryAcquire(1) {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, maxWaiting)
	defer cancel()
	if c.free.Acquire(bounded, 1) != nil {
		return cmp.Or(ctx.Err(), ErrBusy)
	}
	return nil
}

// do makes one call about a key, unless the breaker of its server is open.
func (c *Cache) do(ctx context.Context, what operation, key string, call func(context.Context) error) error {
	err := c.takeConnection(ctx)
	if err == nil {
		defer c.free.Release(1)
		err = c.ask(ctx, what, key, call)
	}
	if err != nil {
		return fmt.Errorf("redis %s: %w", what, err)
	}
	return nil
}

func (c *Cache) ask(ctx context.Context, what operation, key string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.owner(ctx, what, key)
	if err == nil {
		err = s.breaker(what).do(ctx, func(ctx context.Context) error { return newFailure(call(ctx), c.encrypted) })
		c.noteFailure(ctx, err)
	}
	return err
}

var _ observe.Observed = (*Cache)(nil)
