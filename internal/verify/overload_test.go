package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheOrderOfRefusal says what each kind of key costs, the first time and ever
// after: a row that is read, and an Argon2id computation. What comes earlier in
// the order costs nothing of what comes later.
func TestTheOrderOfRefusal(t *testing.T) {
	t.Parallel()
	type cost struct{ rows, argon2 uint64 }
	for _, test := range []struct {
		name         string
		key          func(t *testing.T, f *fixture) string
		reason       verify.Reason
		first, after cost
	}{
		{"too short", func(*testing.T, *fixture) string { return "lm_sys_0" }, verify.ReasonUnminted, cost{}, cost{}},
		{"too long", func(*testing.T, *fixture) string { return "lm_sys_" + strings.Repeat("0", 8000) }, verify.ReasonUnminted, cost{}, cost{}},
		{"another prefix", func(t *testing.T, f *fixture) string {
			_, key := f.mint(t, "one")
			return "lm_pat_" + key[7:]
		}, verify.ReasonUnminted, cost{}, cost{}},
		{"another tag", func(t *testing.T, f *fixture) string {
			_, key := f.mint(t, "one")
			return key[:82] + string('0'+(key[82]-'0'+1)%10)
		}, verify.ReasonUnminted, cost{}, cost{}},
		{"a row that is not there", func(t *testing.T, f *fixture) string {
			id, key := f.mint(t, "one")
			f.store.remove(id)
			return key
		}, verify.ReasonRevoked, cost{rows: 1}, cost{}},
		{"a row that has expired", func(t *testing.T, f *fixture) string {
			_, key := f.mintHashed(t, cheap, store.Key{Label: "over", ExpiresAt: time.Now().Add(-time.Hour)})
			return key
		}, verify.ReasonExpired, cost{rows: 1}, cost{}},
		{"another secret for a row that is known", func(t *testing.T, f *fixture) string {
			id, key := f.mint(t, "one")
			mustVerify(t, f, key)
			return f.minter.Mint(id, [32]byte{1})
		}, verify.ReasonMismatch, cost{rows: 1}, cost{rows: 1}},
		{"another secret for a row that is not known", func(t *testing.T, f *fixture) string {
			id, _ := f.mint(t, "one")
			return f.minter.Mint(id, [32]byte{1})
		}, verify.ReasonMismatch, cost{rows: 1, argon2: 1}, cost{rows: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.clock.freeze()
			key := test.key(t, f)
			for i, want := range []cost{test.first, test.after, test.after} {
				before := f.verifier.Stats()
				mustRefuse(t, f, key, test.reason)
				after := f.verifier.Stats()
				if got := (cost{after.RowReads - before.RowReads, after.Argon2Runs - before.Argon2Runs}); got != want {
					t.Errorf("request %d costs %+v, want %+v", i+1, got, want)
				}
			}
		})
	}
}

// TestAFloodOfUnknownKeysPushesOutNoGoodOne has more keys without a row than all
// that is remembered of such.
func TestAFloodOfUnknownKeysPushesOutNoGoodOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) { c.MaxEntries = 4 })
	f.clock.freeze()
	var good []string
	for range 4 {
		_, key := f.mint(t, "good")
		mustVerify(t, f, key)
		good = append(good, key)
	}
	for range 20_000 {
		mustRefuse(t, f, f.minter.Mint(uuid.Must(uuid.NewV7()), [32]byte{1}), verify.ReasonRevoked)
	}
	before := f.verifier.Stats()
	for _, key := range good {
		mustVerify(t, f, key)
	}
	before.Remembered += 4
	if after := f.verifier.Stats(); after != before || after.Entries != 4 || after.Argon2Runs != 4 {
		t.Errorf("good keys cost %+v, before it was %+v", after, before)
	}
}
