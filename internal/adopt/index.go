package adopt

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// storeTimeout bounds a call on the store.
const storeTimeout = 2 * time.Second

// indexed returns the row that the string is entered for, or [store.ErrNotFound].
func (f *Finder) indexed(key string, digest [32]byte) (Match, error) {
	if err := f.reading.Acquire(f.ctx, 1); err != nil {
		return Match{}, err
	}
	defer f.reading.Release(1)
	ctx, cancel := context.WithTimeout(f.ctx, storeTimeout)
	defer cancel()
	found, err := f.config.Store.Adopted(ctx, names(f.config.Secrets, key))
	if err != nil {
		return Match{}, err
	}
	h := hint{Match: Match{ID: found.ID, Outcome: OutcomeIndex}}
	// Where a secret is being replaced, the entry may be under the one that goes. Then the
	// string is entered once more when it is confirmed.
	if len(f.config.Secrets) == 1 {
		h.entered = coherence.Fingerprint(found.Hash)
	}
	return f.remember(digest, h)
}

// enter makes the entry by which a row is found next time, by every instance.
func (f *Finder) enter(ctx context.Context, id store.ID, hash store.Hash, key string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	name := names(f.config.Secrets[:1], key)[0]
	err := f.config.Store.Adopt(ctx, &store.AdoptedKey{Digest: name, Era: f.eras[0], Key: id, Hash: hash})
	if err != nil && ctx.Err() == nil {
		f.config.Logger.Warn("key of another service not entered, it will be searched for again",
			slog.String("key_id", id.String()), slog.Any("error", err))
	}
}

// names are what the index has a key under. A key of another service may be weak: whoever
// reads the store could find it by guessing from a plain digest, at a much lower cost than
// from the Argon2id hash beside it. So a key goes under
//
//	digest = HMAC(secret, "adopt\0" ‖ key)
//	era    = HMAC(secret, "adopt era\0")
//
// with the secret of the installation, which no store holds.
func names(secrets [][]byte, key string) [][32]byte { return macs(secrets, "adopt\x00"+key) }

// eras tell which entries can be found by the secrets.
func eras(secrets [][]byte) [][32]byte { return macs(secrets, "adopt era\x00") }

func macs(secrets [][]byte, text string) [][32]byte {
	all := make([][32]byte, len(secrets))
	for i, secret := range secrets {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(text))
		all[i] = [32]byte(h.Sum(nil))
	}
	return all
}
