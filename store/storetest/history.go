package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// testHistory takes away what a feed has seen, as the old primary of a failover has
// it not. Then nothing that the store says is believed, until the feed has renewed.
func testHistory(t *testing.T, fresh func(tb testing.TB) *Backend) {
	lost := map[string]func(*testing.T, *Backend, store.Store){
		"the place that was seen is not in the log": func(t *testing.T, _ *Backend, other store.Store) {
			for range 2 {
				_, err := other.Barrier(t.Context())
				must(t, err)
			}
			must(t, other.Prune(t.Context(), 1))
		},
		"the log has another change at that place": func(t *testing.T, b *Backend, _ store.Store) {
			b.Exec(t, "UPDATE "+b.Schema+"change_log SET tag = tag + 1")
		},
	}
	tests := make(map[string]func(*testing.T, *Backend))
	for name, lose := range lost {
		tests[name] = func(t *testing.T, b *Backend) {
			s, other := migrated(t, b), open(t, b)
			key := create(t, s, newKey("perhaps revoked"))[0]
			digest := signIn(t, s, key)
			feed := follow(t, s)
			id := join(t, feed)
			renew(t, feed, store.Turn{Member: id})
			for what, err := range asked(t, s, key, digest) {
				if err != nil {
					t.Errorf("at the place that was seen: %s: %v", what, err)
				}
			}
			lose(t, b, other)
			for what, err := range asked(t, s, key, digest) {
				if !errors.Is(err, store.ErrOtherHistory) {
					t.Errorf("%s: %v, want ErrOtherHistory", what, err)
				}
			}
			refused := onWord(key.ID, func(*store.Key) error {
				t.Error("the acting key is read")
				return nil
			})
			for what, err := range map[string]error{
				"CreateKey":  s.CreateKey(t.Context(), newKey("another"), refused),
				"DeleteKey":  second(s.DeleteKey(t.Context(), key.ID, refused)),
				"DeleteKeys": second(s.DeleteKeys(t.Context(), &store.KeyFilter{LabelPrefix: key.Label}, refused)),
				"Barrier":    second(s.Barrier(t.Context())),
				"Leave":      s.Leave(t.Context(), id),
			} {
				if !errors.Is(err, store.ErrOtherHistory) {
					t.Errorf("%s: %v, want ErrOtherHistory", what, err)
				}
			}
			read(t, other, key.ID) // nothing can be compared where there is no feed
			// A pull does not lead to another history, a renewal does.
			pull(t, feed, store.Position{})
			if _, err := s.Key(t.Context(), key.ID); !errors.Is(err, store.ErrOtherHistory) {
				t.Errorf("after a pull: %v, want ErrOtherHistory", err)
			}
			renew(t, feed, store.Turn{Member: id})
			for what, err := range asked(t, s, key, digest) {
				if err != nil {
					t.Errorf("after a renewal: %s: %v", what, err)
				}
			}
		}
	}
	run(t, fresh, tests)
}

// asked are the calls on whose word somebody is let in, or not, or told that it was
// seen to. What is found by none is an answer.
func asked(tb testing.TB, s store.Store, key *store.Key, session [32]byte) map[string]error {
	tb.Helper()
	ctx := tb.Context()
	_, _, unadopted := s.Unadopted(ctx, nil, time.Now(), 1)
	answers := map[string]error{
		"Key":                second(s.Key(ctx, key.ID)),
		"Key of no row":      second(s.Key(ctx, newID())),
		"Session":            second(s.Session(ctx, session, epoch)),
		"another Session":    second(s.Session(ctx, newDigest(), epoch)),
		"Adopted":            second(s.Adopted(ctx, [][32]byte{newDigest()})),
		"Unadopted":          unadopted,
		"SigningKeys":        second(s.SigningKeys(ctx)),
		"Progress":           second(s.Progress(ctx, []store.ID{key.ID}, nil)),
		"DeleteKeys of none": second(s.DeleteKeys(ctx, &store.KeyFilter{LabelPrefix: "none"}, nil)),
		"DeleteKey of none":  second(s.DeleteKey(ctx, newID(), nil)),
	}
	for what, err := range answers {
		if errors.Is(err, store.ErrNotFound) {
			answers[what] = nil
		}
	}
	return answers
}

func second[T any](_ T, err error) error { return err }
