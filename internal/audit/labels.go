package audit

import (
	"context"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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
