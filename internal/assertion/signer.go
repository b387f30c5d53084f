package assertion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrUnpublished says that there is no key whose public half is known to be
// readable, so that nothing can be signed.
var ErrUnpublished = errors.New("no signing key is published")

// Signer signs assertions, and sees to it that its keys are published. It is safe
// for concurrent use.
type Signer struct {
	keys   store.SigningKeys
	now    func() time.Time
	logger *slog.Logger

	// usable is what signs; nil before the first key was published.
	usable  atomic.Pointer[usable]
	failing atomic.Bool
	wanted  chan struct{}
	stop    context.CancelFunc
	done    chan struct{}

	// The rest belongs to the loop.
	current, next *owned
}

// usable is a key, and when it can be used.
type usable struct {
	key         *key
	from, until time.Time
}

// at reports whether the key can be used at the time given. The monotonic clock
// stands still while a machine is suspended, so the wall clock has a say too.
func (u *usable) at(now time.Time) bool {
	return u != nil && !now.Before(u.from) && u.lives(now)
}

func (u *usable) lives(now time.Time) bool {
	return now.Before(u.until) && now.Round(0).Before(u.until.Round(0))
}

// owned is a key of this instance. Its times are zero until it is published.
type owned struct {
	usable
	since time.Time // when it was first published
}

// Start makes the first key and begins to publish it. Now is a clock whose
// readings carry the monotonic one.
func Start(keys store.SigningKeys, now func() time.Time, logger *slog.Logger) *Signer {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Signer{
		keys: keys, now: now, logger: logger,
		wanted: make(chan struct{}, 1), stop: cancel, done: make(chan struct{}),
	}
	go s.run(ctx)
	return s
}

// Close ends the signing. What was signed can be verified for as long as it holds.
func (s *Signer) Close(ctx context.Context) error {
	s.stop()
	<-s.done
	s.usable.Store(nil)
	s.failing.Store(true)
	var errs []error
	for _, k := range []*owned{s.current, s.next} {
		if k != nil && !k.since.IsZero() {
			errs = append(errs, s.publish(ctx, k.key, afterlife))
		}
	}
	return errors.Join(errs...)
}

// sign signs the claims, which it stamps. It waits a little for a key that is
// about to be usable. The error is [ErrUnpublished], or that of ctx.
func (s *Signer) sign(ctx context.Context, c *claims, ttl time.Duration) (string, error) {
	now := s.now()
	u := s.usable.Load()
	if !u.at(now) {
		var err error
		if u, err = s.await(ctx); err != nil {
			return "", err
		}
		now = s.now()
	}
	c.stamp(now, ttl)
	return u.key.sign(c.encode()), nil
}

func (s *Signer) await(ctx context.Context) (*usable, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrUnpublished)
	defer cancel()
	for !s.failing.Load() {
		u, now := s.usable.Load(), s.now()
		if u.at(now) {
			return u, nil
		}
		if u != nil && !now.Before(u.from) { // the machine was suspended
			s.want()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(look):
		}
	}
	return nil, ErrUnpublished
}

// want has the loop take its next turn now.
func (s *Signer) want() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

func (s *Signer) run(ctx context.Context) {
	defer close(s.done)
	for {
		pause := renewal
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			pause = retry
			if !s.failing.Swap(true) {
				s.logger.Error("signing key cannot be published", slog.Any("error", err))
			}
		} else if err == nil && s.failing.Swap(false) {
			s.logger.Info("signing key is published again")
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wanted:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// turn renews the keys, and replaces the one that signs when it is its time.
func (s *Signer) turn(ctx context.Context) error {
	if s.current == nil {
		k, err := newKey()
		if err != nil {
			return err
		}
		s.current = &owned{usable: usable{key: k}}
	}
	if err := s.renew(ctx, s.current); err != nil {
		return err
	}
	if age := s.now().Sub(s.current.since); age < rotation-overlap {
		return nil
	}
	if s.next == nil {
		k, err := newKey()
		if err != nil {
			return err
		}
		s.next = &owned{usable: usable{key: k}}
	}
	if err := s.renew(ctx, s.next); err != nil {
		return err
	}
	if s.now().Sub(s.next.since) < overlap {
		return nil
	}
	old := s.current
	s.current, s.next = s.next, nil
	if err := s.renew(ctx, s.current); err != nil { // and signs with it from now on
		return err
	}
	return s.publish(ctx, old.key, afterlife)
}

// renew publishes a key for another life. If it is the current one it signs.
func (s *Signer) renew(ctx context.Context, k *owned) error {
	before := s.now()
	if err := s.publish(ctx, k.key, life); err != nil {
		return err
	}
	published := s.now()
	if k.since.IsZero() {
		k.since = published
	}
	if !k.lives(published) { // it is new, or may have been forgotten meanwhile
		k.from = published.Add(settle)
	}
	k.until = before.Add(life - MaxTTL - margin)
	if k == s.current {
		u := k.usable
		s.usable.Store(&u)
	}
	return nil
}

func (s *Signer) publish(ctx context.Context, k *key, life time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.keys.PublishSigningKey(ctx, k.public, life); err != nil {
		return fmt.Errorf("publish a signing key: %w", err)
	}
	return nil
}
