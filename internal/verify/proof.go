package verify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// proofTTL is how long a proof is kept, give or take a tenth. So keys that were verified at
// the same time need not all be verified again at the same time.
const proofTTL = 24 * time.Hour

// ProbeAddress is an address where no proof is ever kept, for checks of the cache. It begins
// like the address of a proof, so the same access rights are enough.
const ProbeAddress = "sk1:probe"

// The layout of a proof: version, blind, MAC.
const (
	proofVersion = 1
	proofLen     = 1 + sha256.Size + sha256.Size
)

// finding is what a proof says about a key.
type finding int

const (
	unproven finding = iota // nothing is known, so Argon2id must run
	proven                  // this digest belongs to this hash
	refuted                 // this digest does not belong to this hash
)

// localProofs is the proof cache of this process. It remembers which digest belongs to which
// stored hash, as a proof in Redis does. With it Argon2id runs once per key and hash, and a
// wrong secret for a known key costs no Argon2id at all.
//
// It also remembers digests that do not belong to a hash, apart and in lesser number. If the
// row of a key was given another hash, a client that goes on with the old key must not keep
// the slots busy.
type localProofs struct {
	proofs  *lru.Cache[store.ID, proof]
	refuted *lru.Cache[[32]byte, [32]byte] // digest to fingerprint
}

// maxRefuted bounds the digests that are known not to belong to a hash.
const maxRefuted = 16384

// proof says that a digest belongs to the hash with this fingerprint.
type proof struct{ fingerprint, digest [32]byte }

func newLocalProofs(size int) *localProofs {
	return &localProofs{lru.New[store.ID, proof](size), lru.New[[32]byte, [32]byte](maxRefuted)}
}

// check says what this process knows about a digest and a hash.
func (p *localProofs) check(id store.ID, fingerprint, digest [32]byte) finding {
	if other, ok := p.refuted.Get(digest); ok && other == fingerprint {
		return refuted
	}
	known, ok := p.proofs.Get(id)
	switch {
	case !ok || known.fingerprint != fingerprint:
		return unproven
	case subtle.ConstantTimeCompare(known.digest[:], digest[:]) != 1:
		return refuted
	}
	return proven
}

func (p *localProofs) keep(id store.ID, fingerprint, digest [32]byte) {
	p.proofs.Add(id, proof{fingerprint, digest})
}

// refute remembers that the digest does not belong to the hash.
func (p *localProofs) refute(fingerprint, digest [32]byte) { p.refuted.Add(digest, fingerprint) }

// Cache is a cache that instances share, in practice Redis. It holds proofs only. So nothing
// that it answers changes whether a key is accepted, only how long that takes. It must be
// safe for concurrent use. It is an interface because this package knows no Redis client.
type Cache interface {
	// Get returns the value at the address, or nil if there is none.
	Get(ctx context.Context, address string) ([]byte, error)
	// Set keeps a value for the time ttl.
	Set(ctx context.Context, address string, value []byte, ttl time.Duration) error
	// Check reads and writes at an address, and logs how that goes if it is news. The engine
	// calls it, and closes the cache.
	Check(ctx context.Context, address string)
	Close() error
}

// sharedProofs is the proof cache that instances share. It looks proofs up under every
// accepted secret, and writes them under the first. The zero value has no proofs and keeps
// none.
type sharedProofs struct {
	cache   Cache
	sealers []sealer
	logger  *slog.Logger
}

func newSharedProofs(cache Cache, secrets [][]byte, logger *slog.Logger) *sharedProofs {
	if cache == nil || len(secrets) == 0 {
		return &sharedProofs{}
	}
	p := &sharedProofs{cache: cache, logger: logger}
	for _, secret := range secrets {
		p.sealers = append(p.sealers, sealer{secret})
	}
	return p
}

// fetch begins to read the proofs for the id, one value per secret. It returns a function
// that waits for them.
func (p *sharedProofs) fetch(ctx context.Context, id store.ID) func() [][]byte {
	if p.cache == nil {
		return func() [][]byte { return nil }
	}
	result := make(chan [][]byte, 1)
	go func() {
		values := make([][]byte, len(p.sealers))
		for i, s := range p.sealers {
			value, err := p.cache.Get(ctx, s.address(id))
			if err != nil {
				p.logger.Debug("proof not read", slog.Any("error", err))
				break
			}
			if values[i] = value; value != nil {
				break
			}
		}
		result <- values
	}()
	return func() [][]byte { return <-result }
}

// check says what the fetched values prove.
func (p *sharedProofs) check(values [][]byte, id store.ID, fingerprint, digest [32]byte) finding {
	for i, value := range values {
		if f := p.sealers[i].open(value, id, fingerprint, digest); f != unproven {
			return f
		}
	}
	return unproven
}

// keep writes a proof. An error is only logged, because a proof can always be lost.
func (p *sharedProofs) keep(ctx context.Context, id store.ID, fingerprint, digest [32]byte) {
	if p.cache == nil {
		return
	}
	ttl := proofTTL*9/10 + rand.N(proofTTL/5) //nolint:gosec // spreads expiry, is no secret
	s := p.sealers[0]
	err := p.cache.Set(ctx, s.address(id), s.seal(id, fingerprint, digest), ttl)
	if err != nil && !errors.Is(err, context.Canceled) {
		p.logger.Debug("proof not kept", slog.Any("error", err))
	}
}

// sealer writes and reads proofs under one secret. A proof is
//
//	address = "sk1:" ‖ base64url(HMAC(secret, "addr\0" ‖ id))
//	value   = version ‖ blind ‖ HMAC(secret, "memo\0" ‖ version ‖ id ‖ fingerprint ‖ blind)
//	blind   = HMAC(secret, "blind\0" ‖ digest)
//
// The fingerprint is SHA-256 of the stored PHC string, and the digest is [token.Digest] of
// the key. A dump of Redis shows outputs of a pseudorandom function and nothing else. If
// somebody writes to Redis, he can neither make a proof nor move one to another key or hash.
// The address depends on the id alone, so that the proof can be fetched while the row is
// read.
type sealer struct{ secret []byte }

// mac computes HMAC-SHA256 over the parts. The first part says what the MAC is for.
func (s sealer) mac(parts ...[]byte) []byte {
	h := hmac.New(sha256.New, s.secret)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func (s sealer) address(id store.ID) string {
	return "sk1:" + base64.RawURLEncoding.EncodeToString(s.mac([]byte("addr\x00"), id[:]))
}

// seal makes the value of a proof.
func (s sealer) seal(id store.ID, fingerprint, digest [32]byte) []byte {
	value := make([]byte, 0, proofLen)
	value = append(value, proofVersion)
	value = append(value, s.mac([]byte("blind\x00"), digest[:])...)
	return append(value, s.memo(id, fingerprint, value[1:])...)
}

func (s sealer) memo(id store.ID, fingerprint [32]byte, blind []byte) []byte {
	return s.mac([]byte("memo\x00"), []byte{proofVersion}, id[:], fingerprint[:], blind)
}

// open says what a value proves. A value that was not made under this secret, or for another
// id or hash, proves nothing.
func (s sealer) open(value []byte, id store.ID, fingerprint, digest [32]byte) finding {
	if len(value) != proofLen || value[0] != proofVersion {
		return unproven
	}
	blind, memo := value[1:1+sha256.Size], value[1+sha256.Size:]
	if !hmac.Equal(memo, s.memo(id, fingerprint, blind)) {
		return unproven
	}
	if subtle.ConstantTimeCompare(blind, s.mac([]byte("blind\x00"), digest[:])) != 1 {
		return refuted
	}
	return proven
}
