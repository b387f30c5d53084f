package audit

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// How many denials are recorded: of one key, and of all keys together. One key gets a record a
// second, after twenty at once: enough to see when it was used, and from where. All keys
// together get as many at once as fit into a part of the queue of a [Writer].
const (
	denialsPerSecond    = 1
	denialsAtOnce       = 20
	allDenialsPerSecond = 100
	allDenialsAtOnce    = 2000
	// limitedKeys bounds the keys whose denials are counted.
	limitedKeys = 4096
)

// denialLimiter limits how many denials are recorded. It counts the denials that it does
// not let through. The count is in a later record of the same key or, if there is none, in
// the record of a gap.
type denialLimiter struct {
	mu   sync.Mutex
	keys *lru.Cache[store.ID, *keyDenials]
	all  *rate.Limiter
	// uncounted are denials that no later record of their key can count.
	uncounted int64
}

// keyDenials are the denials of one key.
type keyDenials struct {
	limiter *rate.Limiter
	skipped int64 // since the last denial that was recorded
}

func newDenialLimiter() *denialLimiter {
	l := &denialLimiter{all: rate.NewLimiter(allDenialsPerSecond, allDenialsAtOnce)}
	l.keys = lru.NewWithEvict(limitedKeys, func(_ store.ID, d *keyDenials) { l.uncounted += d.skipped })
	return l
}

// allow reports whether a denial of the key is to be recorded. If so, it returns how many
// denials of the key were skipped before.
func (l *denialLimiter) allow(key store.ID, at time.Time) (ok bool, skipped int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, found := l.keys.Get(key)
	if !found {
		// If the cache is full, the key that was denied least recently makes room.
		d = &keyDenials{limiter: rate.NewLimiter(denialsPerSecond, denialsAtOnce)}
		l.keys.Add(key, d)
	}
	// The key's own limit comes first, so that one key does not use up the limit of all.
	if !d.limiter.AllowN(at, 1) || !l.all.AllowN(at, 1) {
		d.skipped++
		return false, 0
	}
	skipped, d.skipped = d.skipped, 0
	return true, skipped
}

// takeUncounted returns how many denials became uncounted since the last call. With all,
// every denial that was skipped is among them: no further record will come.
func (l *denialLimiter) takeUncounted(all bool) (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all {
		l.keys.Purge()
	}
	n, l.uncounted = l.uncounted, 0
	return n
}

// withSkipped adds the number of denials that were skipped to the details of a record. The
// details are a JSON object, or nil.
func withSkipped(details json.RawMessage, n int64) json.RawMessage {
	members := map[string]any{}
	if details != nil && json.Unmarshal(details, &members) != nil {
		return details
	}
	members["not_recorded_before"] = n
	whole, err := json.Marshal(members)
	if err != nil { // cannot happen: the members were decoded from JSON
		panic(err)
	}
	return whole
}

// labels finds the labels of keys that have ended, for the records of those who still use
// them. It asks the store, and remembers the answers.
type labels struct {
	log   store.AuditLog
	cache *lru.Cache[store.ID, string]
}

// newLabels remembers the labels of 1024 keys.
func newLabels(log store.AuditLog) *labels {
	return &labels{log, lru.New[store.ID, string](1024)}
}

// fill sets the label in records of denials that do not have one.
func (l *labels) fill(ctx context.Context, records []store.AuditRecord) error {
	for i := range records {
		r := &records[i]
		if r.Event != store.AuditDenied || r.Key.ID == (store.ID{}) || r.Key.Label != "" {
			continue
		}
		label, ok := l.cache.Get(r.Key.ID)
		if !ok {
			var err error
			// An empty label is remembered too: the log does not know the key.
			if label, err = l.log.AuditLabel(ctx, r.Key.ID); err != nil {
				return err
			}
			l.cache.Add(r.Key.ID, label)
		}
		r.Key.Label, r.Actor.Label = label, label
	}
	return nil
}
