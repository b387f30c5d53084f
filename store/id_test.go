package store_test

import (
	"encoding/json"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestIDRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var id store.ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		parsed, err := store.ParseID(id.String())
		if err != nil || parsed != id {
			t.Fatalf("%s became %s: %v", id, parsed, err)
		}
		b, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var decoded store.ID
		if err := json.Unmarshal(b, &decoded); err != nil || decoded != id {
			t.Fatalf("%s became %s in JSON: %v", id, decoded, err)
		}
	})
}

func TestOnlyTheCanonicalFormIsAnID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "0", "0197f000-0000-7000-8000-00000000000", "0197f000-0000-7000-8000-0000000000000",
		"0197f00000007000800000000000000", "{0197f000-0000-7000-8000-000000000000}", "urn:uuid:0197f000-0000-7000-8000-000000000000",
		"0197f000-0000-7000-8000_000000000000", "0197f000-0000-7000-8000-00000000000g", "0197f0000-000-7000-8000-000000000000",
		"+197f000-0000-7000-8000-000000000000", "0197f000 0000 7000 8000 000000000000",
	} {
		if _, err := store.ParseID(s); !errors.Is(err, store.ErrBadID) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, err := store.ParseID("0197F000-0000-7000-8000-00000000000A"); err != nil {
		t.Errorf("capitals: %v", err)
	}
}
