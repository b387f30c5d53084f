// Package redis is a cache of small values in Redis: a node, a cluster, or a
// master that sentinels watch over. Its user is the verifier, which remembers
// there that Argon2id work was done. This package knows nothing of that: it
// carries bytes, sealed by whoever puts them in.
//
// What the cache holds may be lost, and Redis may be away. So a call never
// waits longer than [Options.Timeout], and while Redis keeps failing a circuit
// breaker answers [ErrUnavailable] in its place, at no cost.
//
// # URLs
//
//	redis://[[user]:password@]host[:port][/db]     a node
//	rediss://...                                   the same over TLS
//	unix://[[user]:password@]/path/to.sock[?db=N]  a node's unix socket
//
// Several URLs are the seeds of a cluster. With ?master_name=NAME in the first
// they, or it alone, are sentinels; user, password and database are then those
// of the master. What the first URL says beyond its host holds for all, and
// need not be repeated.
//
// Parameters are client_name, db, pool_size (connections per server, by
// default those of the client library), master_name, sentinel_username,
// sentinel_password, and skip_verify=true, which turns off the check of the
// server's certificate. Others are refused, those for timeouts among them:
// there is one timeout, and it holds whatever the URL says.
package redis

import (
	"cmp"
	"context"
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
	// ErrUnavailable says that Redis was not asked, because it has been failing.
	ErrUnavailable = errors.New("redis is unavailable")
	// ErrBusy says that Redis was not asked, because all connections were in use for
	// too long.
	ErrBusy = errors.New("all connections to redis are in use")
)

// maxWaiting is how long a call waits for its turn. That is not for ever where
// Redis is slow, but not so slow that calls fail.
const maxWaiting = time.Second

// Defaults of [Options].
const (
	DefaultTimeout  = 50 * time.Millisecond
	DefaultCooldown = time.Second
)

// Options change how a [Cache] treats its Redis. The zero value is good.
type Options struct {
	// Timeout is how long one call may take, connecting included. Zero means
	// [DefaultTimeout].
	Timeout time.Duration
	// Cooldown is how long Redis is left alone after three reads, or three writes, in a row have
	// failed, each begun after the one before. Then one call tries again. Zero means
	// [DefaultCooldown].
	Cooldown time.Duration
	// Logger is told when Redis goes and when it comes back. Nil means nobody.
	Logger *slog.Logger
}

// Cache is a cache in Redis. It is safe for concurrent use.
//
// Of many calls at once as many run as there are connections; the others wait for
// their turn, a second at most ([ErrBusy]), and not for long if Redis does not
// answer, since it is left alone then. That is no failure of Redis: a thousand keys
// that come to a fresh instance at once are to find its proofs, and not to be the
// reason that it is left alone.
//
// A call whose turn it is returns within the timeout of [Options], or the deadline of
// its context if that is earlier. An error other than [ErrUnavailable] and [ErrBusy]
// means that Redis was asked and did not answer as it should; it repeats nothing
// that Redis has said. A caller that goes away (its context is cancelled) says nothing about
// Redis and does not count as a failure of it.
type Cache struct {
	client  redis.UniversalClient
	turns   *semaphore.Weighted
	reads   *breaker
	writes  *breaker
	timeout time.Duration
	log     *slog.Logger
	calls   observe.Calls
	close   func() error
	// encrypted says that TLS is spoken.
	encrypted bool

	saying sync.Mutex // guards said
	said   Health
}

// New makes a cache from the URLs of one node, of a cluster, or of sentinels;
// see the package's documentation. It does not connect: that a URL is well
// formed is all that is checked, and an error says what is wrong with it.
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
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	now := time.Now //nolint:forbidigo // how long calls take
	client := newClient(t, opts.Timeout)
	c := &Cache{
		client:  client,
		turns:   semaphore.NewWeighted(int64(connections(t))),
		timeout: opts.Timeout,
		log:     opts.Logger,
		calls:   observe.OfRedis(now),
		close:   sync.OnceValue(client.Close),
		said:    Health{Condition: OK},

		encrypted: t.scheme == "rediss",
	}
	c.reads, c.writes = newBreaker(opts.Cooldown, c.report), newBreaker(opts.Cooldown, c.report)
	return c, nil
}

// Observe implements [observe.Observed]. Only [Cache.Get] and [Cache.Set] are shown.
func (c *Cache) Observe(meter observe.Meter) { c.calls.Observe(meter) }

// Get returns the value of a key, or nil if there is none. A value that is
// there but empty is not nil.
func (c *Cache) Get(ctx context.Context, key string) (_ []byte, err error) {
	ctx, end := c.calls.Begin(ctx, "get")
	defer end(&err)
	return c.get(ctx, key)
}

func (c *Cache) get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := c.do(ctx, c.reads, "get", func(ctx context.Context) error {
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

// Set stores a value that Redis forgets after ttl, which must be a millisecond
// or more: nothing is kept for ever.
func (c *Cache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) (err error) {
	ctx, end := c.calls.Begin(ctx, "set")
	defer end(&err)
	return c.set(ctx, key, value, ttl)
}

func (c *Cache) set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl < time.Millisecond {
		return errors.New("redis set: the time to live is under a millisecond")
	}
	return c.do(ctx, c.writes, "set", func(ctx context.Context) error {
		return c.client.Set(ctx, key, value, ttl).Err()
	})
}

// Close closes the connections; calls that are running may fail. It can be
// called more than once.
func (c *Cache) Close() error { return c.close() }

// wait waits for a turn, which is to be given back if there is no error.
func (c *Cache) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.turns.TryAcquire(1) {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, maxWaiting)
	defer cancel()
	if c.turns.Acquire(bounded, 1) != nil {
		return cmp.Or(ctx.Err(), ErrBusy)
	}
	return nil
}

// do makes one call on Redis, if the breaker lets it.
func (c *Cache) do(ctx context.Context, breaker *breaker, what string, call func(context.Context) error) error {
	err := c.wait(ctx)
	if err == nil {
		defer c.turns.Release(1)
		err = breaker.do(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, c.timeout)
			defer cancel()
			return failed(call(ctx), c.encrypted)
		})
	}
	if err != nil {
		return fmt.Errorf("redis %s: %w", what, err)
	}
	return nil
}

var _ observe.Observed = (*Cache)(nil)
