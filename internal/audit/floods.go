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

// How many denials are recorded: of one key, and of all.
const (
	denialsPerSecond    = 1
	denialsAtOnce       = 20
	allDenialsPerSecond = 100
	allDenialsAtOnce    = 2000
	// floodKeys bounds the keys of which it is known how often they were denied.
	floodKeys = 4096
)

// floods holds records of denials back.
type floods struct {
	mu   sync.Mutex
	keys *lru.Cache[store.ID, *flood]
	all  *rate.Limiter
	// forgotten are those that no later record of their key will tell of.
	forgotten int64
}

type flood struct {
	limiter *rate.Limiter
	held    int64
}

func newFloods() *floods {
	f := &floods{all: rate.NewLimiter(allDenialsPerSecond, allDenialsAtOnce)}
	f.keys = lru.NewWithEvict(floodKeys, func(_ store.ID, of *flood) { f.forgotten += of.held })
	return f
}

// take returns how many were forgotten since it was last called. At the end all
// are that were held back.
func (f *floods) take(end bool) (forgotten int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end {
		f.keys.Purge()
	}
	forgotten, f.forgotten = f.forgotten, 0
	return forgotten
}

// pass reports whether a denial of the key is to be recorded, and how many were
// not since the last one that was.
func (f *floods) pass(key store.ID, at time.Time) (pass bool, held int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of, ok := f.keys.Get(key)
	if !ok {
		of = &flood{limiter: rate.NewLimiter(denialsPerSecond, denialsAtOnce)}
		f.keys.Add(key, of)
	}
	if !of.limiter.AllowN(at, 1) || !f.all.AllowN(at, 1) {
		of.held++
		return false, 0
	}
	held, of.held = of.held, 0
	return true, held
}

// withRepeated adds the number to the details, which are an object or nothing.
func withRepeated(details json.RawMessage, n int64) json.RawMessage {
	members := map[string]any{}
	if details != nil && json.Unmarshal(details, &members) != nil {
		return details
	}
	members["not_recorded_before"] = n
	whole, err := json.Marshal(members)
	if err != nil { // what was decoded encodes again
		panic(err)
	}
	return whole
}

// labels finds the labels of keys that are gone, for records of who still uses
// them.
type labels struct {
	log   store.AuditLog
	known *lru.Cache[store.ID, string]
}

func newLabels(log store.AuditLog) *labels {
	return &labels{log, lru.New[store.ID, string](1024)}
}

// fill completes the records of denials that have no label yet.
func (l *labels) fill(ctx context.Context, records []store.AuditRecord) error {
	for i := range records {
		r := &records[i]
		if r.Event != store.AuditDenied || r.Key.ID == (store.ID{}) || r.Key.Label != "" {
			continue
		}
		label, ok := l.known.Get(r.Key.ID)
		if !ok {
			var err error
			if label, err = l.log.AuditLabel(ctx, r.Key.ID); err != nil {
				return err
			}
			l.known.Add(r.Key.ID, label)
		}
		r.Key.Label, r.Actor.Label = label, label
	}
	return nil
}
