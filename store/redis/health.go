package redis

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Condition says how well Redis works.
type Condition string

// The conditions, the best first.
const (
	// OK means that calls succeed.
	OK Condition = "ok"
	// Failing means that Redis answers, but with errors.
	Failing Condition = "failing"
	// Unreachable means that Redis does not answer.
	Unreachable Condition = "unreachable"
)

// Health is the state of Redis as the last calls have shown it. Reads and writes have a
// condition each: a replica only reads, and so does a server whose memory is full. Of a
// cluster it is the state of the server that does worst.
type Health struct {
	// Condition is the worse one of reads and writes.
	Condition Condition
	// Since is when this condition began.
	Since time.Time
	// Error says why, in one line without a secret. It begins with the address of the
	// server if Redis is a cluster. With [OK] it is empty.
	Error         string
	Reads, Writes Condition
}

// Health returns the state of Redis without asking Redis.
func (c *Cache) Health() Health {
	whole := c.whole.health()
	for _, s := range c.masterList() {
		h := s.health()
		reads, writes := worse(h.Reads, whole.Reads), worse(h.Writes, whole.Writes)
		if h.worseThan(whole) {
			whole = h
		}
		whole.Reads, whole.Writes = reads, writes
	}
	return whole
}

// worseThan reports whether this state is the one to show. Of two that are equally bad it is
// the one that has lasted longer, and of two that are OK the newer one.
func (h Health) worseThan(other Health) bool {
	switch {
	case h.Condition != other.Condition:
		return worse(h.Condition, other.Condition) == h.Condition
	case h.Condition == OK:
		return h.Since.After(other.Since)
	}
	return h.Since.Before(other.Since)
}

// worse returns the worse one of two conditions.
func worse(a, b Condition) Condition {
	if a == Unreachable || b == OK {
		return a
	}
	return b
}

// Check reads and writes the key address to find out how well Redis works. The first time, and
// if something is wrong or right again, one line in the log says so.
func (c *Cache) Check(ctx context.Context, address string) {
	read := func() error { _, err := c.get(ctx, address); return err }
	write := func() error { return c.set(ctx, address, []byte{}, time.Second) }
	for _, call := range []func() error{read, write} {
		for range tolerance {
			if err := call(); err == nil || errors.Is(err, ErrUnavailable) {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(dialTimeout / 2): // the client may still be connecting
			}
		}
	}
	c.report(true)
}

// logInterval is how often the log repeats that Redis does not work. It is a little less than a
// minute, since an engine at rest checks each minute.
const logInterval = 55 * time.Second

// report logs how Redis works if that has changed. With repeat it does so each minute while Redis
// does not work. It does not log the attempts in between, nor the same condition twice for reads
// and writes.
func (c *Cache) report(repeat bool) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	h, now := c.Health(), time.Now() //nolint:forbidigo // for display
	before, logged := c.reported, c.logged
	changed := h.Condition != before.Condition || h.Condition == Failing && h.Error != before.Error
	if !changed && (!repeat || h.Condition == OK || now.Sub(logged) < logInterval) {
		return
	}
	c.reported, c.logged = h, now
	since := slog.Time("since", h.Since)
	switch {
	case h.Condition == Unreachable:
		c.log.Warn("redis does not answer, each instance verifies keys itself", slog.String("error", h.Error), since)
	case h.Condition == Failing:
		what := "writes"
		if h.Reads != OK {
			what = "reads"
		}
		c.log.Warn("redis answers with errors, each instance verifies keys itself", slog.String("error", h.Error), slog.String("calls", what), since)
	case before.Condition == "":
		c.log.Info("redis works")
	default:
		c.log.Info("redis works again", slog.String("after", now.Sub(before.Since).Round(time.Millisecond).String()))
	}
}

// State is the state of the circuit breaker, which decides whether Redis is asked.
type State string

// The states.
const (
	// StateClosed means that every call goes to Redis. This is the normal state.
	StateClosed State = "closed"
	// StateHalfOpen means that one call goes to Redis, to see whether it works again.
	StateHalfOpen State = "half_open"
	// StateOpen means that no call goes to Redis, because it has been failing.
	StateOpen State = "open"
)

// State returns the worst state of all breakers: those for reads and those for writes, and
// those of all servers of a cluster. It does not ask Redis.
func (c *Cache) State() State {
	worst := c.whole.state()
	for _, s := range c.masterList() {
		worst = worseState(worst, s.state())
	}
	return worst
}

// worseState returns the worse one of two states.
func worseState(a, b State) State {
	if a == StateOpen || b == StateClosed {
		return a
	}
	return b
}
