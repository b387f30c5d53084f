package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// theirs writes the row of a key that another service has minted.
func (f *fleet) theirs(label, plain string) *store.Key {
	f.tb.Helper()
	hash, err := phc.Hash(plain, phc.Params{Memory: 7 << 10, Iterations: 1, Parallelism: 1})
	if err != nil {
		f.tb.Fatal(err)
	}
	key := &store.Key{ID: store.ID(uuid.Must(uuid.NewV7())), Label: label}
	f.mustPSQL(fmt.Sprintf("INSERT INTO system_keys (id, label, key_hash) VALUES ('%s', '%s', '%s')", key.ID, label, hash))
	return key
}

// TestAnAdoptedKeyIsRevokedEverywhere has keys of another service end as ours do.
func TestAnAdoptedKeyIsRevokedEverywhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 10*time.Second, "secret 0123456789abcdef0123456789abcdef\nadopt_keys on")

	plain := "lm_sys_revoked-by.the_api"
	key := f.theirs("revoked by the API", plain)
	l, stream := hammer(t, key, plain, f.instances...), openEvents(t, f.instances[1], plain)
	asked := time.Now()
	answered, _, _ := mustRevoke(t, f.instances[0], key)
	stream.wantEnd(t, asked, promptly)
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)

	for name, statement := range map[string]string{
		"deleted":            "DELETE FROM system_keys WHERE label = 'by SQL'",
		"not theirs anymore": "UPDATE system_keys SET minted = true WHERE label = 'by SQL'",
	} {
		plain := "lm_sys_" + uuid.NewString()
		key := f.theirs("by SQL", plain)
		l, stream := hammer(t, key, plain, f.instances...), openEvents(t, f.instances[1], plain)
		asked := time.Now()
		f.mustPSQL(statement)
		l.wantRefused(t, promptly)
		stream.wantEnd(t, asked, promptly)
		if l.stop(); t.Failed() {
			t.Errorf("%s: %s", name, l.summary())
		}
		f.mustPSQL("DELETE FROM system_keys WHERE label = 'by SQL'")
	}
}
