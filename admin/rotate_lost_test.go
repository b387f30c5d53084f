package admin

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lossyRotation is a store of the keys with these ids, whose answers to rotations get lost. It
// is the [Revoker] too.
type lossyRotation struct {
	store.Store // nil: what is not here is not to be called

	keys     map[store.ID]*store.Key
	lost     int  // rotations that are carried out, and whose answers are lost
	failed   int  // rotations that are rolled back after the records were made
	vanishes bool // the old key is gone once an answer was lost
	attempts []store.ID
	waited   []store.ID
	wait     error
}

func (l *lossyRotation) Key(_ context.Context, id store.ID) (*store.Key, error) {
	if key := l.keys[id]; key != nil {
		return key, nil
	}
	return nil, store.ErrNotFound
}

func (l *lossyRotation) RotateKey(_ context.Context, rotation *store.Rotation, write *store.Write) (*store.Rotated, error) {
	if by := write.By(); by != nil {
		acting := l.keys[by.ID]
		if acting == nil {
			return nil, store.ErrActorGone
		}
		if err := by.Allow(acting); err != nil {
			return nil, err
		}
	}
	before, old := maps.Clone(l.keys), l.keys[rotation.ID]
	if old == nil {
		return nil, store.ErrNotFound
	}
	changed := *old
	next, err := rotation.Succeed(&changed)
	if err != nil {
		return nil, err
	}
	l.attempts = append(l.attempts, next.ID)
	r := &store.Rotated{Old: &changed, New: next}
	if unused := l.keys[changed.ReplacedBy]; unused != nil && !slices.Contains(rotation.Known, unused.ID) {
		return nil, &store.ReplacedError{By: unused.ID}
	} else if unused != nil {
		r.Ended = append(r.Ended, unused)
	}
	if rotation.Replace(&changed, next, time.Now()); rotation.Now {
		r.Ended = append(r.Ended, old)
	}
	l.keys[next.ID], l.keys[old.ID] = next, &changed
	write.Records(next)
	for _, key := range r.Ended {
		delete(l.keys, key.ID)
		write.Records(key)
	}
	switch {
	case l.failed > 0:
		l.failed--
		l.keys = before
	case l.lost > 0:
		l.lost--
	default:
		return r, nil
	}
	if l.vanishes {
		delete(l.keys, old.ID)
	}
	return nil, errLost
}

func (l *lossyRotation) Wait(_ context.Context, keys []store.ID, _ time.Time, _ func(coherence.Report)) (coherence.Report, error) {
	l.waited = keys
	return coherence.Report{Total: 1, Acknowledged: 1}, l.wait
}

// TestRotateOverLostAnswers: the answer is always about a key that is there, and the key in
// clear belongs to it. Whatever an attempt may have ended is forgotten and waited for.
func TestRotateOverLostAnswers(t *testing.T) {
	t.Parallel()
	bot, unused := store.ID{1}, store.ID{2}
	for _, c := range []struct {
		name     string
		store    lossyRotation
		self     bool
		now      bool
		attempts int
		ended    int // keys that are forgotten and waited for
		err      error
	}{
		{"nothing is lost", lossyRotation{}, false, false, 1, 0, nil},
		{"the answer is lost", lossyRotation{lost: 1}, false, false, 2, 1, nil},
		{"the first attempt is rolled back", lossyRotation{failed: 1}, false, false, 2, 0, nil},
		{"both are", lossyRotation{failed: 2}, false, false, 2, 0, errLost},
		{"both answers are lost", lossyRotation{lost: 2}, false, false, 2, 1, errLost},
		{"at once", lossyRotation{}, false, true, 1, 1, nil},
		{"at once, and the answer is lost", lossyRotation{lost: 1}, false, true, 1, 1, nil},
		{"at once, and rolled back", lossyRotation{failed: 1}, false, true, 2, 1, nil},
		{"of itself, and the answer is lost", lossyRotation{lost: 1}, true, false, 2, 1, nil},
		{"of itself at once, and the answer is lost", lossyRotation{lost: 1}, true, true, 1, 1, nil},
		{"rolled back, and then the key is revoked", lossyRotation{failed: 1, vanishes: true}, false, false, 1, 0, store.ErrNotFound},
		{"the answer is lost, and then the key is revoked", lossyRotation{lost: 1, vanishes: true}, false, false, 1, 0, nil},
	} {
		for _, before := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				l, ended := c.store, c.ended
				l.keys = map[store.ID]*store.Key{bot: {ID: bot, Label: "bot", Permissions: []string{PermissionRotate}}}
				if before { // it was rotated before
					l.keys[bot].ReplacedBy, l.keys[unused] = unused, &store.Key{ID: unused, Label: "bot"}
					ended++
				}
				forgotten := map[store.ID]bool{}
				service := &Service{
					Store: &l, Revoker: &l, Now: time.Now, Minter: token.New(store.MintKey{1}),
					Hash:   func(context.Context, string) (store.Hash, error) { return "x", nil },
					Forget: func(id store.ID) { forgotten[id] = true },
				}
				var rotation *Rotation
				var err error
				if options := (RotateOptions{Now: c.now}); c.self {
					actor := Actor{Key: bot, Type: store.ActorKey, Name: bot.String(), Permissions: []string{PermissionRotate}}
					rotation, err = service.RotateSelf(t.Context(), actor, options)
				} else {
					rotation, err = service.Rotate(t.Context(), CLI(), bot, options)
				}
				if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if len(l.attempts) != c.attempts || len(forgotten) != ended {
					t.Errorf("after %d attempts %v were forgotten", len(l.attempts), forgotten)
				}
				if len(l.attempts) == 2 && l.attempts[0] == l.attempts[1] {
					t.Error("both attempts have one successor")
				}
				if err != nil {
					return
				}
				if id, _, err := token.Read(rotation.Plain); err != nil || id != rotation.Key.ID || !service.Minter.Minted(rotation.Plain) || l.keys[id] == nil || rotation.Old.ID != bot {
					t.Errorf("the answer is %+v with %+v, %v", rotation.Key, rotation.Old, err)
				}
				if err := rotation.Wait(t.Context()); err != nil || len(l.waited) != ended || (rotation.Ended == nil) != (ended == 0) {
					t.Errorf("%v were waited for, with %v", l.waited, err)
				}
				for _, id := range l.waited {
					if !forgotten[id] || l.keys[id] != nil {
						t.Errorf("%s was waited for", id)
					}
				}
			})
		}
	}
}

// TestARotationFailsWithItsWait, so that nobody takes a key for ended that may be accepted.
func TestARotationFailsWithItsWait(t *testing.T) {
	t.Parallel()
	l := &lossyRotation{keys: map[store.ID]*store.Key{{1}: {ID: store.ID{1}, Label: "bot"}}, wait: coherence.ErrUndone}
	service := &Service{
		Store: l, Revoker: l, Now: time.Now, Minter: token.New(store.MintKey{1}),
		Hash: func(context.Context, string) (store.Hash, error) { return "x", nil },
	}
	for _, body := range []string{"", `{"now":true}`} {
		r := httptest.NewRequest(http.MethodPost, "/v1/admin/system-keys/x/rotate", strings.NewReader(body))
		w := httptest.NewRecorder()
		err := RotateKey(w, r, &Exchange{handler: new(Handler), Service: service, Actor: CLI(), ID: store.ID{1}})
		if body == "" && (err != nil || w.Code != http.StatusCreated) || body != "" && (RefusalOf(err).Status != http.StatusServiceUnavailable || w.Body.Len() > 0) {
			t.Errorf("%q: %v, %d %s", body, err, w.Code, w.Body)
		}
	}
}

// TestARotationThatComesLateEndsNoSuccessor has a client give up while its request waits for
// Argon2id, and rotate again. The successor that the client has got stays.
func TestARotationThatComesLateEndsNoSuccessor(t *testing.T) {
	t.Parallel()
	bot := store.ID{1}
	l := &lossyRotation{keys: map[store.ID]*store.Key{bot: {ID: bot, Label: "bot"}}}
	waiting, release := make(chan struct{}), make(chan struct{})
	service := func(hash func()) *Service {
		return &Service{
			Store: l, Revoker: l, Now: time.Now, Minter: token.New(store.MintKey{1}),
			Hash: func(context.Context, string) (store.Hash, error) { hash(); return "x", nil },
		}
	}
	late := make(chan error, 1)
	go func() {
		_, err := service(func() { close(waiting); <-release }).Rotate(t.Context(), CLI(), bot, RotateOptions{})
		late <- err
	}()
	<-waiting
	got, err := service(func() {}).Rotate(t.Context(), CLI(), bot, RotateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	if replaced, ok := errors.AsType[*store.ReplacedError](<-late); !ok || replaced.By != got.Key.ID {
		t.Errorf("the late one: %v", replaced)
	}
	if l.keys[got.Key.ID] == nil {
		t.Error("the successor is gone")
	}
}
