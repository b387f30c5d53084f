package verify

import (
	"crypto/subtle"
	"errors"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// known remembers, in this process, which digest belongs to which stored hash:
// the same fact as a proof in Redis. With it Argon2id runs once per key and
// hash, and a wrong secret for a known key costs none at all. Digests that were
// found not to belong to a hash are remembered too, apart and in lesser number:
// a client that goes on with a key whose row was given another hash must not
// keep the slots busy.
type known struct {
	facts *lru.Cache[store.ID, fact]
	wrong *lru.Cache[[32]byte, [32]byte] // digest to fingerprint
}

// wrongSize bounds the digests that are known to be wrong.
const wrongSize = 16384

type fact struct{ fingerprint, digest [32]byte }

func newKnown(size int) *known {
	facts, err := lru.New[store.ID, fact](size)
	wrong, err2 := lru.New[[32]byte, [32]byte](wrongSize)
	if err := errors.Join(err, err2); err != nil { // the sizes are positive
		panic(err)
	}
	return &known{facts, wrong}
}

func (k *known) check(id store.ID, fingerprint, digest [32]byte) finding {
	if of, ok := k.wrong.Get(digest); ok && of == fingerprint {
		return refuted
	}
	f, ok := k.facts.Get(id)
	switch {
	case !ok || f.fingerprint != fingerprint:
		return unproven
	case subtle.ConstantTimeCompare(f.digest[:], digest[:]) != 1:
		return refuted
	}
	return proven
}

// has reports whether anything is known of the id, without counting as a use.
func (k *known) has(id store.ID) bool { return k.facts.Contains(id) }

func (k *known) keep(id store.ID, fingerprint, digest [32]byte) {
	k.facts.Add(id, fact{fingerprint, digest})
}

// refute remembers that the digest does not belong to the hash.
func (k *known) refute(fingerprint, digest [32]byte) { k.wrong.Add(digest, fingerprint) }
