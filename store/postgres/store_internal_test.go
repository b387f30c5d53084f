package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAPausedTransactionHoldsNoKeyForEver stops between two statements of a
// transaction, as a process does that is suspended, until another one has deleted
// the key.
func TestAPausedTransactionHoldsNoKeyForEver(t *testing.T) {
	t.Parallel()
	s := empty(t)
	key := &store.Key{ID: store.ID{1}, Label: "held", Hash: "$argon2id$", CreatedAt: time.Unix(1_800_000_000, 0)}
	if err := s.CreateKey(t.Context(), key, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.transact(ctx, func(tx *database) error {
		if _, err := tx.Exec(ctx, lockForAdoption, uuid(key.ID)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.DeleteKey(ctx, key.ID, nil); err != nil {
			t.Errorf("DeleteKey while another transaction is paused: %v", err)
		}
		return nil
	})
	if err == nil {
		t.Error("a transaction that was ended commits")
	}
}
