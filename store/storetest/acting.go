package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// yes allows whatever the acting key is.
func yes(*store.Key) error { return nil }

// onWord is a write on the word of a key.
func onWord(id store.ID, allow func(*store.Key) error) *store.Write {
	return &store.Write{Acting: &store.Acting{ID: id, Allow: allow}}
}

func testActing(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"the acting key is shown as it is, without its hash": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			actor := newKey("actor")
			actor.Permissions, actor.IsSystem = []string{"bots:read"}, true
			create(t, s, actor)
			shown := 0
			acting := onWord(actor.ID, func(k *store.Key) error {
				shown++
				want := *actor
				want.Hash = ""
				same(t, k, &want)
				return nil
			})
			made := newKey("made")
			must(t, s.CreateKey(t.Context(), made, acting))
			_, err := s.DeleteKey(t.Context(), made.ID, acting)
			must(t, err)
			if shown != 2 {
				t.Errorf("asked %d times, want 2", shown)
			}
		},
		"what is not allowed is not done": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("actor"), newKey("victim"))
			denied := errors.New("denied")
			acting := onWord(keys[0].ID, func(*store.Key) error { return denied })
			if err := s.CreateKey(t.Context(), newKey("never"), acting); !errors.Is(err, denied) {
				t.Errorf("CreateKey = %v, want the error of Allow", err)
			}
			if _, err := s.DeleteKey(t.Context(), keys[1].ID, acting); !errors.Is(err, denied) {
				t.Errorf("DeleteKey = %v, want the error of Allow", err)
			}
			total(t, s, 2)
		},
		"a key that is gone acts no more": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			victim := create(t, s, newKey("victim"))[0]
			acting := onWord(newKey("gone").ID, yes)
			if err := s.CreateKey(t.Context(), newKey("never"), acting); !errors.Is(err, store.ErrActorGone) {
				t.Errorf("CreateKey = %v, want ErrActorGone", err)
			}
			if _, err := s.DeleteKey(t.Context(), victim.ID, acting); !errors.Is(err, store.ErrActorGone) {
				t.Errorf("DeleteKey = %v, want ErrActorGone", err)
			}
			total(t, s, 1)
		},
		"a key deletes itself once": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			self := create(t, one, newKey("self"))[0]
			results := make(chan error, 2)
			for _, s := range []store.Store{one, other} {
				go func() {
					_, err := s.DeleteKey(context.WithoutCancel(t.Context()), self.ID, onWord(self.ID, yes))
					results <- err
				}()
			}
			first, second := <-results, <-results
			if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), store.ErrActorGone) {
				t.Errorf("DeleteKey = %v and %v, want one nil and one ErrActorGone", first, second)
			}
			total(t, one, 0)
		},
		"a deletion waits for a write of the key that it deletes": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			actor := create(t, one, newKey("actor"))[0]
			allowed, decide := make(chan struct{}), make(chan struct{})
			created, deleted := make(chan error, 1), make(chan error, 1)
			made := newKey("made")
			go func() {
				created <- one.CreateKey(context.WithoutCancel(t.Context()), made, onWord(actor.ID, func(*store.Key) error {
					close(allowed)
					<-decide
					return nil
				}))
			}()
			<-allowed
			go func() {
				_, err := other.DeleteKey(context.WithoutCancel(t.Context()), actor.ID, nil)
				// Answered: from now on nothing of the actor's may appear.
				if _, missing := other.Key(context.WithoutCancel(t.Context()), made.ID); err == nil && missing != nil {
					err = errors.New("answered before the write had ended")
				}
				deleted <- err
			}()
			close(decide)
			must(t, <-created)
			must(t, <-deleted)
		},
		"of two keys that delete one another one is left": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			keys := create(t, one, newKey("a"), newKey("b"))
			results := make(chan error, 2)
			for i, s := range []store.Store{one, other} {
				go func() {
					_, err := s.DeleteKey(context.WithoutCancel(t.Context()), keys[1-i].ID, onWord(keys[i].ID, yes))
					results <- err
				}()
			}
			first, second := <-results, <-results
			if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), store.ErrActorGone) {
				t.Errorf("DeleteKey = %v and %v, want one nil and one ErrActorGone", first, second)
			}
			total(t, one, 1)
		},
	})
}
