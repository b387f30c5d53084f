package verify

import (
	"bytes"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// FuzzOpen holds that an entry of the cache proves something only if it is, byte
// for byte, one that was sealed under the secret for that id and that hash.
func FuzzOpen(f *testing.F) {
	ours, others := sealer{[]byte("the secret of the test")}, sealer{[]byte("the secret of somebody else")}
	id, other := store.ID{1}, store.ID{2}
	hash, digest := [32]byte{3}, [32]byte{4}
	sealed := ours.seal(id, hash, digest)
	f.Add(sealed)
	f.Add(ours.seal(id, hash, [32]byte{5}))
	f.Add(ours.seal(id, [32]byte{6}, digest))
	f.Add(ours.seal(other, hash, digest))
	f.Add(others.seal(id, hash, digest))
	f.Add(sealed[:len(sealed)-1])
	f.Add(append(bytes.Clone(sealed), 0))
	f.Add(append([]byte{2}, sealed[1:]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		before := bytes.Clone(value)
		switch found := ours.open(value, id, hash, digest); found {
		case proven:
			if !bytes.Equal(value, sealed) {
				t.Errorf("%x proves the key", value)
			}
		case refuted:
			// Only a seal can say that another digest belongs to this hash.
			if len(value) != proofLen || !bytes.Equal(value[1+32:], ours.memo(id, hash, value[1:1+32])) {
				t.Errorf("%x refutes the key", value)
			}
		case unproven:
			if bytes.Equal(value, sealed) {
				t.Error("what was sealed proves nothing")
			}
		}
		for name, found := range map[string]finding{
			"another id":     ours.open(value, other, hash, digest),
			"another hash":   ours.open(value, id, [32]byte{7}, digest),
			"another secret": others.open(value, id, hash, digest),
		} {
			if found == proven && bytes.Equal(value, sealed) {
				t.Errorf("the proof was moved to %s", name)
			}
		}
		if !bytes.Equal(before, value) {
			t.Error("the entry was changed")
		}
	})
}
