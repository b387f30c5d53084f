package redis

import (
	"context"
	"errors"
	"time"
)

// Condition is how Redis does.
type Condition string

// The conditions, the best first.
const (
	// OK: it does what it is asked for.
	OK Condition = "ok"
	// Failing: it answers, but with errors.
	Failing Condition = "failing"
	// Unreachable: it does not answer.
	Unreachable Condition = "unreachable"
)

// Health is how Redis does, by what the last calls have shown. Reads and writes are
// judged apart: a replica, and a server whose memory is full, does only one.
type Health struct {
	// Condition is the worse of the two.
	Condition Condition
	// Since is when that began.
	Since time.Time
	// Error says why, in one line without a secret; empty with [OK].
	Error         string
	Reads, Writes Condition
}

// Health says how Redis does, without asking it.
func (c *Cache) Health() Health {
	reads, writes := *c.reads.finding.Load(), *c.writes.finding.Load()
	h := Health{Reads: reads.condition, Writes: writes.condition}
	worst := writes
	if reads.condition == Unreachable || writes.condition == OK {
		worst = reads
	}
	h.Condition, h.Error, h.Since = worst.condition, worst.text, worst.since
	if reads.condition == OK && writes.since.After(h.Since) {
		h.Since = writes.since
	}
	return h
}

// Check reads and writes at an address to find out how Redis does. One line in the
// log says what is wrong.
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
			case <-time.After(dialTimeout / 2): // a connection may be in the making
			}
		}
	}
}

// report logs that Redis went or came back, and not each try in between, nor the
// same twice for reads and writes.
func (c *Cache) report() {
	c.saying.Lock()
	defer c.saying.Unlock()
	h := c.Health()
	said := c.said
	if h.Condition == said.Condition && (h.Condition != Failing || h.Error == said.Error) {
		return
	}
	c.said = h
	switch h.Condition {
	case Unreachable:
		c.log.Warn("redis does not answer and is left alone for a while", "error", h.Error)
	case Failing:
		what := "writes"
		if h.Reads != OK {
			what = "reads"
		}
		c.log.Warn("redis answers with errors and is left alone for a while", "error", h.Error, "calls", what)
	case OK:
		c.log.Info("redis answers again")
	}
}

// State is whether Redis is asked.
type State string

// The states.
const (
	// StateClosed: it is, as always.
	StateClosed State = "closed"
	// StateHalfOpen: one call is let through to see whether it answers again.
	StateHalfOpen State = "half_open"
	// StateOpen: it is not, because it has been failing.
	StateOpen State = "open"
)

// State says whether Redis is asked now, without asking it: for reads or for
// writes, whichever is worse.
func (c *Cache) State() State {
	reads, writes := c.reads.state(), c.writes.state()
	if reads == StateOpen || writes == StateClosed {
		return reads
	}
	return writes
}
