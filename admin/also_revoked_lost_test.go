package admin

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// lossyHeirs is a store with key 1, which has minted key 2 of itself. Answers get lost.
type lossyHeirs struct {
	lossy

	heir       *store.Key // nil: gone
	actorGone  bool       // the acting key is revoked by somebody else after the first attempt
	log        []store.AuditRecord
	rolledBack bool // the first attempt is
}

func (l *lossyHeirs) DeleteKey(_ context.Context, _ store.ID, write *store.Write) (*store.Key, error) {
	l.calls = append(l.calls, "delete")
	if by := write.By(); by != nil && (l.heir == nil || l.actorGone && len(l.calls) > 1) {
		return nil, store.ErrActorGone // the heir acts
	}
	var records []store.AuditRecord
	for _, key := range []*store.Key{l.key, l.heir} {
		if key == nil {
			continue
		}
		if record, ok := write.Records(key); ok {
			records = append(records, record)
		}
	}
	if l.rolledBack && len(l.calls) == 1 {
		return nil, errLost
	}
	key := l.key
	l.key, l.heir, l.log = nil, nil, append(l.log, records...)
	if l.lost > 0 {
		l.lost--
		return nil, errLost
	}
	if key == nil {
		return nil, store.ErrNotFound
	}
	return key, nil
}

func (l *lossyHeirs) Audit(_ context.Context, query *store.AuditQuery) (*store.AuditPage, error) {
	page := &store.AuditPage{}
	for _, record := range l.log {
		if (query.Key == store.ID{} || query.Key == record.Key.ID) && !record.At.Before(query.Since) && (query.Until.IsZero() || record.At.Before(query.Until)) {
			page.Records = append(page.Records, record)
		}
	}
	return page, nil
}

// TestWhatWasRevokedWithAKeyIsNotLost with an answer, also if the acting key went with it.
func TestWhatWasRevokedWithAKeyIsNotLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		store lossyHeirs
		acts  bool // the heir acts, and not the command line
		calls []string
		want  error
	}{
		{"nothing is lost", lossyHeirs{}, false, []string{"delete", "forget", "forget", "wait"}, nil},
		{"the answer is lost", lossyHeirs{lossy: lossy{lost: 1}}, false, []string{"delete", "delete", "forget", "forget", "wait"}, nil},
		{"the first attempt is rolled back", lossyHeirs{rolledBack: true}, false, []string{"delete", "delete", "forget", "forget", "wait"}, nil},
		{"the heir acts", lossyHeirs{}, true, []string{"delete", "forget", "forget", "wait"}, nil},
		{"the heir acts, and the answer is lost", lossyHeirs{lossy: lossy{lost: 1}}, true, []string{"delete", "delete", "forget", "forget", "wait"}, nil},
		{
			"the heir acts, the first attempt is rolled back, and the heir is revoked by another",
			lossyHeirs{rolledBack: true, actorGone: true},
			true,
			[]string{"delete", "delete", "forget", "forget"},
			store.ErrActorGone,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := c.store
			l.key, l.heir = &store.Key{ID: store.ID{1}, Label: "bot", ReplacedBy: store.ID{2}}, &store.Key{ID: store.ID{2}, Label: "heir"}
			service, _ := newRevoking(&l.lossy, 0)
			service.Store = &l
			actor := CLI()
			if c.acts {
				actor = Actor{Key: l.heir.ID, Type: store.ActorKey, Name: "heir", Permissions: []string{PermissionDelete}}
			}
			for range 2 { // the answer of a second call is that of the first
				revocation, err := service.Revoke(t.Context(), actor, store.ID{1})
				var revoked *Revoked
				if err == nil {
					revoked, err = revocation.Wait(t.Context(), nil)
				}
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				if err == nil && (len(revoked.Keys) != 1 || revoked.Keys[0] != store.AuditKey{ID: store.ID{2}, Label: "heir"} ||
					revoked.Label != "bot" || !revoked.At.Equal(l.log[0].At) || revoked.ReplacedBy != store.AuditKey{}) {
					t.Errorf("got %+v", revoked)
				}
				if c.calls != nil && !slices.Equal(l.calls, c.calls) {
					t.Errorf("the calls are %v, not %v", l.calls, c.calls)
				}
				actor, c.calls = CLI(), nil
				if c.want != nil {
					break
				}
				service.Now = func() time.Time { return time.Now().Add(time.Hour) }
			}
		})
	}
}
