package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lossy is a store with one key, whose answers get lost. Real ones lose theirs at
// moments that a test cannot choose.
type lossy struct {
	store.Store // nil: what is not here is not to be called

	key    *store.Key // nil: gone
	record *store.AuditRecord
	lost   int // deletions that are carried out, and whose answers are lost
	failed int // deletions that fail
	calls  []string
}

var errLost = errors.New("connection lost")

func (l *lossy) Key(context.Context, store.ID) (*store.Key, error) {
	if l.key == nil {
		return nil, store.ErrNotFound
	}
	return l.key, nil
}

func (l *lossy) DeleteKey(_ context.Context, _ store.ID, write *store.Write) (*store.Key, error) {
	l.calls = append(l.calls, "delete")
	if l.failed > 0 {
		l.failed--
		return nil, errLost
	}
	key := l.key
	if l.key = nil; key == nil {
		return nil, store.ErrNotFound
	}
	if record, ok := write.Records(key); ok {
		l.record = &record
	}
	if l.lost > 0 {
		l.lost--
		return nil, errLost
	}
	return key, nil
}

func (l *lossy) Audit(context.Context, *store.AuditQuery) (*store.AuditPage, error) {
	page := &store.AuditPage{}
	if l.record != nil {
		page.Records = append(page.Records, *l.record)
	}
	return page, nil
}

// waiter is a [Revoker] whose wait takes a while.
type waiter struct {
	lossy *lossy
	takes time.Duration
	ended atomic.Bool
}

func (w *waiter) Wait(ctx context.Context, _ []store.ID, _ time.Time, watch func(coherence.Report)) (coherence.Report, error) {
	w.lossy.calls = append(w.lossy.calls, "wait")
	awaited := coherence.Report{Total: 2, Acknowledged: 1, Awaited: []store.Member{{Name: "slow one"}}}
	if watch != nil {
		watch(awaited)
	}
	select {
	case <-ctx.Done():
		return awaited, ctx.Err()
	case <-time.After(w.takes):
	}
	w.ended.Store(true)
	return coherence.Report{Total: 2, Acknowledged: 2, Cut: 3}, nil
}

func newRevoking(l *lossy, takes time.Duration) (*Service, *waiter) {
	w := &waiter{lossy: l, takes: takes}
	return &Service{
		Store: l, Revoker: w, Now: time.Now,
		Forget: func(store.ID) { l.calls = append(l.calls, "forget") },
	}, w
}

// revokedBefore is the record of a revocation.
var revokedBefore = &store.AuditRecord{
	Event: store.AuditRevoked, At: time.Unix(1_700_000_000, 0).UTC(), Key: store.AuditKey{ID: store.ID{1}, Label: "bot"},
}

func TestRevokeOverLostAnswers(t *testing.T) {
	t.Parallel()
	present := func() *store.Key { return &store.Key{ID: store.ID{1}, Label: "bot"} }
	for _, c := range []struct {
		name  string
		store lossy
		calls []string
		want  error // of either step
	}{
		{"nothing is lost", lossy{key: present()}, []string{"delete", "forget", "wait"}, nil},
		{"the answer is lost", lossy{key: present(), lost: 1}, []string{"delete", "delete", "forget", "wait"}, nil},
		{"the first attempt fails", lossy{key: present(), failed: 1}, []string{"delete", "delete", "forget", "wait"}, nil},
		{"both fail", lossy{key: present(), failed: 2}, []string{"delete", "delete", "forget"}, errLost},
		{"it was revoked before: it is deleted and waited for as then", lossy{record: revokedBefore}, []string{"delete", "forget", "wait"}, nil},
		{"nobody knows it: it is deleted and waited for all the same", lossy{}, []string{"delete", "forget", "wait"}, store.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := c.store
			service, _ := newRevoking(&l, 0)
			revocation, err := service.Revoke(t.Context(), CLI(), store.ID{1})
			var revoked *Revoked
			if err == nil {
				revoked, err = revocation.Wait(t.Context(), nil)
			}
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err == nil && (revoked.ID != store.ID{1} || revoked.Label != "bot" || !revoked.At.Equal(l.record.At) || revoked.Report.Cut != 3) {
				t.Errorf("got %+v", revoked)
			}
			if !slices.Equal(l.calls, c.calls) {
				t.Errorf("the calls are %v, not %v", l.calls, c.calls)
			}
		})
	}
}

func TestRevokeIsNotForEverybody(t *testing.T) {
	t.Parallel()
	l := &lossy{key: &store.Key{ID: store.ID{1}}}
	service, _ := newRevoking(l, 0)
	if _, err := service.Revoke(t.Context(), Actor{}, store.ID{1}); !errors.Is(err, ErrForbidden) || len(l.calls) != 0 {
		t.Errorf("got %v after %v", err, l.calls)
	}
}

// deletion asks by REST. The context is the client's.
func deletion(ctx context.Context, service *Service, prefer string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequestWithContext(ctx, http.MethodDelete, "/v1/admin/system-keys/x", http.NoBody)
	if prefer != "" {
		r.Header.Set("Prefer", prefer)
	}
	w := httptest.NewRecorder()
	return w, RevokeKey(w, r, &Exchange{handler: new(Handler), Service: service, Actor: CLI(), ID: store.ID{1}})
}

func TestDeletionAnswersWhenItIsTrueOrWhenPatienceIsOver(t *testing.T) {
	present := lossy{key: &store.Key{ID: store.ID{1}, Label: "bot"}}
	for _, c := range []struct {
		name, prefer string
		store        lossy
		status       int
		took         time.Duration
		applied      string
	}{
		{"no preference", "", present, http.StatusOK, 10 * time.Second, ""},
		{"little patience", "wait=3", present, http.StatusAccepted, 3 * time.Second, "wait=3"},
		{"more than is needed", "respond-async, wait=30", present, http.StatusOK, 10 * time.Second, "wait=30"},
		{"a preference that nobody understands", "wait=soon", present, http.StatusOK, 10 * time.Second, ""},
		{"once more", "", lossy{record: revokedBefore}, http.StatusOK, 10 * time.Second, ""},
		{"once more, with little patience", "wait=2", lossy{record: revokedBefore}, http.StatusAccepted, 2 * time.Second, "wait=2"},
		{"an id that nobody knows", "", lossy{}, http.StatusNotFound, 10 * time.Second, ""},
		{"an id that nobody knows, with little patience", "wait=1", lossy{}, http.StatusAccepted, time.Second, "wait=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := c.store
				service, wait := newRevoking(&l, 10*time.Second)
				began := time.Now()
				w, err := deletion(t.Context(), service, c.prefer)
				if errors.Is(err, store.ErrNotFound) {
					w.Code = http.StatusNotFound
				} else if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); w.Code != c.status || took != c.took || w.Header().Get("Preference-Applied") != c.applied {
					t.Errorf("%d after %v: %v", w.Code, took, w.Header())
				}
				if w.Code == http.StatusNotFound {
					return
				}
				var answer struct {
					Data struct {
						Label     string
						RevokedAt time.Time `json:"revoked_at"`
						Instances struct {
							Total, Acknowledged int
							Awaited             []string
						}
						Cut int `json:"requests_cut"`
					}
				}
				if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
					t.Fatal(err)
				}
				if got := answer.Data; c.status == http.StatusAccepted && (got.Instances.Acknowledged != 1 || !slices.Equal(got.Instances.Awaited, []string{"slow one"})) ||
					c.status == http.StatusOK && (got.Instances.Acknowledged != 2 || got.Cut != 3) {
					t.Errorf("got %s", w.Body)
				}
				if got := answer.Data; got.RevokedAt.IsZero() != (c.status == http.StatusAccepted) ||
					l.record != nil && (got.Label != "bot" || c.status == http.StatusOK && !got.RevokedAt.Equal(l.record.At)) {
					t.Errorf("got %s", w.Body)
				}
				time.Sleep(10 * time.Second)
				if !wait.ended.Load() {
					t.Error("the wait was given up with the answer")
				}
			})
		})
	}
}

func TestTheWaitGoesOnWithoutTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, wait := newRevoking(&lossy{key: &store.Key{ID: store.ID{1}}}, 10*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := deletion(ctx, service, ""); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if !wait.ended.Load() {
			t.Error("it was given up")
		}
	})
}
