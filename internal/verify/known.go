package verify

import (
	"crypto/subtle"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// known remembers, in this process, which digest belongs to which stored hash:
// the same fact as a proof in Redis. With it Argon2id runs once per key and
// hash, and a wrong secret for a known key costs none at all.
type known struct {
	facts *lru.Cache[store.ID, fact]
}

type fact struct{ fingerprint, digest [32]byte }

func newKnown(size int) *known {
	facts, err := lru.New[store.ID, fact](size)
	if err != nil { // the size is a positive constant or checked configuration
		panic(err)
	}
	return &known{facts}
}

func (k *known) check(id store.ID, fingerprint, digest [32]byte) finding {
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
