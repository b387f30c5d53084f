package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// server has the breakers of a server that is asked. Of a cluster each master has some, so
// that one that is dead keeps nobody from the keys of the others.
type server struct {
	addr string // empty if Redis is no cluster
	key  string // one that the server was asked for
	// Reads and writes are judged apart: a replica only reads, and so does a server whose
	// memory is full.
	reads, writes *breaker
}

func (c *Cache) newServer(addr, key string) *server {
	changed := func() { c.report(false) }
	return &server{addr, key, newBreaker(c.cooldown, changed), newBreaker(c.cooldown, changed)}
}

func (s *server) breaker(what operation) *breaker {
	if what == writing {
		return s.writes
	}
	return s.reads
}

// health is what the calls on this server have shown.
func (s *server) health() Health {
	reads, writes := *s.reads.finding.Load(), *s.writes.finding.Load()
	h := Health{Reads: reads.condition, Writes: writes.condition}
	worst := writes
	if reads.condition == Unreachable || writes.condition == OK {
		worst = reads
	}
	h.Condition, h.Error, h.Since = worst.condition, worst.text, worst.since
	if reads.condition == OK && writes.since.After(h.Since) {
		h.Since = writes.since
	}
	if s.addr != "" && h.Error != "" {
		h.Error = s.addr + ": " + h.Error
	}
	return h
}

func (s *server) state() State { return worseState(s.reads.state(), s.writes.state()) }

// owner returns the server that a call about a key goes to. The first calls on a cluster have
// to ask it which servers it has: the breakers of c.whole are about that question.
func (c *Cache) owner(ctx context.Context, what operation, key string) (*server, error) {
	if c.cluster == nil {
		return c.whole, nil
	}
	var addr string
	err := c.whole.breaker(what).do(ctx, func(ctx context.Context) error {
		master, err := c.cluster.MasterForKey(ctx, key)
		if err == nil {
			addr = master.Options().Addr
		}
		return newFailure(err, c.encrypted)
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	s, known := c.masters[addr]
	if !known {
		s = c.newServer(addr, key)
		c.masters[addr] = s
	}
	c.mu.Unlock()
	if !known {
		c.report(false) // it may have taken the place of one that does not answer
	}
	return s, nil
}

// noteFailure has the client ask the cluster again which servers it has, if one of them does
// not answer: a replica may have taken its place. By itself the client asks once a minute.
func (c *Cache) noteFailure(ctx context.Context, err error) {
	if f, ok := errors.AsType[*failure](err); ok && f.condition == Unreachable && c.cluster != nil {
		c.cluster.ReloadState(ctx)
	}
}

// masterList returns the masters of a cluster that were asked. What a master has shown that
// has lost its keys since then is forgotten, because it is not asked any more.
func (c *Cache) masterList() []*server {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.masters, func(addr string, s *server) bool {
		// This asks nobody: the client knows the cluster since the master was found.
		master, err := c.cluster.MasterForKey(context.Background(), s.key)
		return err == nil && master.Options().Addr != addr
	})
	return slices.Collect(maps.Values(c.masters))
}
