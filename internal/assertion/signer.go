package assertion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrUnpublished says that nothing can be signed: no key is known to be published.
var ErrUnpublished = errors.New("no signing key is published")

// Signer signs assertions, and keeps its keys published. It is safe for concurrent use.
type Signer struct {
	keys   store.SigningKeys
	now    func() time.Time
	logger *slog.Logger

	// signing is the key that signs now. It is nil until the first key was published.
	signing atomic.Pointer[usableKey]
	failing atomic.Bool   // the last attempt to publish has failed
	wake    chan struct{} // asks the loop to renew now
	stop    context.CancelFunc
	done    sync.WaitGroup

	// current and next belong to the loop. Next is nil until current is to be replaced.
	current, next *publishedKey
}

// usableKey is a key, and from when until when it may sign.
type usableKey struct {
	*key
	from, until time.Time
}

// usable reports whether the key may sign now.
func (k *usableKey) usable(now time.Time) bool {
	return k != nil && !now.Before(k.from) && k.unexpired(now)
}

// unexpired compares both clocks. The monotonic clock stands still while a machine is
// suspended, and the wall clock does not.
func (k *usableKey) unexpired(now time.Time) bool {
	return now.Before(k.until) && now.Round(0).Before(k.until.Round(0))
}

// publishedKey is a key of this instance. Its times are zero until it is published.
type publishedKey struct {
	usableKey
	since time.Time // when it was first published
}

// newPublishedKey makes a key that is yet to be published.
func newPublishedKey() *publishedKey { return &publishedKey{usableKey: usableKey{key: newKey()}} }

// Start makes the first key and begins to publish it. The readings of now must carry the
// monotonic clock.
func Start(keys store.SigningKeys, now func() time.Time, logger *slog.Logger) *Signer {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Signer{
		keys: keys, now: now, logger: logger,
		wake: make(chan struct{}, 1), stop: cancel,
	}
	s.done.Go(func() { s.run(ctx) })
	return s
}

// Close ends the signing. Assertions that were signed before can be verified until they
// expire. The error is that of the store.
func (s *Signer) Close(ctx context.Context) error {
	s.stop()
	s.done.Wait()
	s.signing.Store(nil)
	s.failing.Store(true)
	var errs []error
	for _, k := range []*publishedKey{s.current, s.next} {
		if k != nil && !k.since.IsZero() {
			errs = append(errs, s.publish(ctx, k.key, retiredLife))
		}
	}
	return errors.Join(errs...)
}

// sign stamps the claims and signs them. It waits up to [keyWait] for a key that is about
// to be usable. The error is [ErrUnpublished], or that of ctx.
func (s *Signer) sign(ctx context.Context, c *claims, ttl time.Duration) (string, error) {
	now := s.now()
	k := s.signing.Load()
	if !k.usable(now) {
		var err error
		if k, err = s.awaitKey(ctx); err != nil {
			return "", err
		}
		now = s.now()
	}
	c.stamp(now, ttl)
	return c.sign(k.header, k), nil
}

// awaitKey waits for a usable key. While publishing fails it returns at once.
func (s *Signer) awaitKey(ctx context.Context) (*usableKey, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, keyWait, ErrUnpublished)
	defer cancel()
	for !s.failing.Load() {
		k, now := s.signing.Load(), s.now()
		if k.usable(now) {
			return k, nil
		}
		if k != nil && !now.Before(k.from) { // it has expired: the machine was suspended
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(keyPoll):
		}
	}
	return nil, ErrUnpublished
}

// run renews the keys until ctx ends. It logs the first failure in a row, and the success
// that ends the row.
func (s *Signer) run(ctx context.Context) {
	for {
		pause := renewInterval
		if err := s.renewKeys(ctx); err != nil && ctx.Err() == nil {
			pause = retryInterval
			if !s.failing.Swap(true) {
				s.logger.Error("signing key cannot be published", slog.Any("error", err))
			}
		} else if err == nil && s.failing.Swap(false) {
			s.logger.Info("signing key is published again")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-s.wake:
		}
	}
}

// renewKeys renews the keys. When it is time it replaces the key that signs.
func (s *Signer) renewKeys(ctx context.Context) error {
	if s.current == nil {
		s.current = newPublishedKey()
	}
	if err := s.renew(ctx, s.current); err != nil {
		return err
	}
	if age := s.now().Sub(s.current.since); age < rotateAfter-successorLead {
		return nil
	}
	if s.next == nil {
		s.next = newPublishedKey()
	}
	if err := s.renew(ctx, s.next); err != nil {
		return err
	}
	if s.now().Sub(s.next.since) < successorLead {
		return nil
	}
	old := s.current
	s.current, s.next = s.next, nil
	if err := s.renew(ctx, s.current); err != nil { // it signs from now on
		return err
	}
	return s.publish(ctx, old.key, retiredLife)
}

// renew publishes a key for another [keyLife]. The current key signs from then on.
func (s *Signer) renew(ctx context.Context, k *publishedKey) error {
	before := s.now()
	if err := s.publish(ctx, k.key, keyLife); err != nil {
		return err
	}
	published := s.now()
	if k.since.IsZero() {
		k.since = published
	}
	if !k.unexpired(published) { // it is new, or the store may have dropped it meanwhile
		k.from = published.Add(publishLead)
	}
	k.until = before.Add(keyLife - MaxTTL - clockMargin)
	if k == s.current {
		signing := k.usableKey
		s.signing.Store(&signing)
	}
	return nil
}

// publish writes the public half of a key to the store, to expire after life.
func (s *Signer) publish(ctx context.Context, k *key, life time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.keys.PublishSigningKey(ctx, k.public, life); err != nil {
		return fmt.Errorf("publish a signing key: %w", err)
	}
	return nil
}
