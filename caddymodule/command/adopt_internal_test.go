package command

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/semaphore"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
)

// hashedKey is a cheap hash of a key.
func hashedKey(t *testing.T, key string) *phc.Hashed {
	t.Helper()
	text, err := phc.Hash(key, phc.Params{Memory: 64, Iterations: 1, Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	hashed, err := phc.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return hashed
}

func TestAKeyIsFoundAmongCandidates(t *testing.T) {
	t.Parallel()
	var candidates []candidate
	keys := []string{"lm_sys_a", "lm_sys_b", "lm_sys_c", "lm_sys_d", "lm_sys_e"}
	for _, key := range keys {
		candidates = append(candidates, candidate{hashed: hashedKey(t, key)})
	}
	a := &adopter{total: 100, memory: semaphore.NewWeighted(100)}
	for want, key := range keys {
		if found, err := a.find(t.Context(), candidates, key); found != want || err != nil {
			t.Errorf("%s was found at %d, %v", key, found, err)
		}
	}
	if found, err := a.find(t.Context(), candidates, "lm_sys_f"); found != -1 || err != nil {
		t.Errorf("nobody's key was found at %d, %v", found, err)
	}
}

// TestAHashWaitsForItsMemory has other hashes take all but a part of it.
func TestAHashWaitsForItsMemory(t *testing.T) {
	t.Parallel()
	const key = "lm_sys_a"
	hashed := hashedKey(t, key)
	a := &adopter{total: 100, memory: semaphore.NewWeighted(100)}
	if err := a.memory.Acquire(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.verify(over, hashed, key); !errors.Is(err, context.Canceled) {
		t.Errorf("with 60 KiB free it gave %v", err)
	}
	a.memory.Release(40)
	if matches, err := a.verify(t.Context(), hashed, key); !matches || err != nil {
		t.Errorf("with 100 KiB free it gave %v, %v", matches, err)
	}
	if !a.memory.TryAcquire(100) {
		t.Error("the memory is not given back")
	}
}
