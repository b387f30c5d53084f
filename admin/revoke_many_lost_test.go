package admin

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lossyMany is a store whose answers to the deletion of many keys get lost. It is the
// [Revoker] too.
type lossyMany struct {
	store.Store // nil: what is not here is not to be called

	keys    []*store.Key
	late    *store.Key // is there once an answer was lost
	revoked []store.ID
	lost    int // deletions that are carried out, and whose answers are lost
	failed  int // deletions that are rolled back after the records were made
	waited  []store.ID
}

func (l *lossyMany) DeleteKeys(_ context.Context, _ *store.KeyFilter, write *store.Write) ([]*store.Key, error) {
	deleted := slices.Clone(l.keys)
	for _, key := range deleted {
		write.Records(key)
	}
	if l.failed > 0 {
		l.failed--
		return nil, errLost
	}
	l.keys = nil
	for _, key := range deleted {
		l.revoked = append(l.revoked, key.ID)
	}
	if l.lost > 0 {
		l.lost--
		if l.late != nil {
			l.keys = append(l.keys, l.late)
		}
		return nil, errLost
	}
	return deleted, nil
}

func (l *lossyMany) KnownKeys(_ context.Context, ids []store.ID) (keys []store.Key, revoked []store.ID, err error) {
	for _, id := range l.revoked {
		if slices.Contains(ids, id) {
			revoked = append(revoked, id)
		}
	}
	return nil, revoked, nil
}

func (l *lossyMany) Wait(_ context.Context, keys []store.ID, _ time.Time, _ func(coherence.Report)) (coherence.Report, error) {
	l.waited = keys
	return coherence.Report{Total: 1, Acknowledged: 1}, nil
}

func TestRevokeManyOverLostAnswers(t *testing.T) {
	t.Parallel()
	one, two, late := &store.Key{ID: store.ID{1}, Label: "one"}, &store.Key{ID: store.ID{2}, Label: "two"}, &store.Key{ID: store.ID{3}, Label: "late"}
	present := func() []*store.Key { return []*store.Key{one, two} }
	for _, c := range []struct {
		name  string
		store lossyMany
		want  []string
		last  byte // of the keys that are waited for
		err   error
	}{
		{"nothing is lost", lossyMany{keys: present()}, []string{"one", "two"}, 2, nil},
		{"the answer is lost", lossyMany{keys: present(), lost: 1}, []string{"one", "two"}, 0, nil},
		{"the answer is lost, and a key comes", lossyMany{keys: present(), lost: 1, late: late}, []string{"late", "one", "two"}, 3, nil},
		{"the first attempt is rolled back", lossyMany{keys: present(), failed: 1}, []string{"one", "two"}, 2, nil},
		{"both are", lossyMany{keys: present(), failed: 2}, nil, 0, errLost},
		{"there is none", lossyMany{}, []string{}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := c.store
			tried := map[store.ID]bool{}
			service := &Service{Store: &l, Revoker: &l, Now: time.Now, Forget: func(id store.ID) { tried[id] = true }}
			revocation, err := service.RevokeMany(t.Context(), CLI(), &store.KeyFilter{LabelPrefix: "x"})
			for _, key := range c.store.keys {
				if !tried[key.ID] {
					t.Errorf("%s may still be remembered", key.Label)
				}
			}
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			revoked, err := revocation.Wait(t.Context(), nil)
			if err != nil || revoked.At.IsZero() {
				t.Fatalf("got %+v, %v", revoked, err)
			}
			labels := []string{}
			for _, key := range revoked.Keys {
				labels = append(labels, key.Label)
			}
			slices.Sort(labels)
			if !slices.Equal(labels, c.want) || len(l.waited) != len(c.want) {
				t.Errorf("%v were revoked and %d waited for, want %v", labels, len(l.waited), c.want)
			}
			if c.last > 0 && l.waited[len(l.waited)-1] != (store.ID{c.last}) {
				t.Errorf("the last of the keys is %v", l.waited)
			}
		})
	}
}
