// Package token mints system keys and reads them back.
//
// A key is 83 characters of ASCII, of fixed layout:
//
//	lm_sys_ + 22 (id) + 43 (secret) + 11 (tag)
//
// The three parts are numbers in base62 (0-9A-Za-z in that order, most
// significant digit first, padded with 0): the 128 bits of a UUID, 256 random
// bits, and the first 64 bits of HMAC-SHA256(mint key, id and secret as they
// are written). A number that needs more bits than its part has is malformed,
// so that no two strings stand for one key. testdata has vectors for those who
// implement this in another language.
//
// # What the tag is for
//
// The tag tells strings that this installation minted from all others before
// anything is looked up or hashed with Argon2id. It protects the machine and
// not the keys: those are protected by their 256 random bits. A forged tag buys
// an attacker one query, and guessing one takes 2^64 requests.
package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
)

const (
	// Prefix is what every system key begins with.
	Prefix = "lm_sys_"
	// Length is the length of every system key in bytes, prefix included.
	Length = len(Prefix) + signedLength + tagLength
)

// The widths of the parts of a key, in characters.
const (
	idLength     = 22
	secretLength = 43
	tagLength    = 11
	signedLength = idLength + secretLength
)

// dummy stands in for what follows the prefix in strings that have not even
// the shape of a key, so that they cost what all others cost.
const dummy = "0000000000000000000000000000000000000000000000000000000000000000000000000000"

// The errors of [Minter.Parse]. They never contain the input. Whoever sent it
// must not be told which of the two it was.
var (
	// ErrMalformed reports a string that no installation could have minted.
	ErrMalformed = errors.New("not a system key")
	// ErrUnminted reports a string of the right form whose tag was not made
	// with this installation's mint key.
	ErrUnminted = errors.New("not a key of this installation")
)

// Minter mints the keys of one installation, and tells them from all other
// strings. It is immutable and safe for concurrent use.
type Minter struct{ tags tagger }

// New returns the minter for an installation's mint key.
func New(mintKey [32]byte) *Minter { return &Minter{tags: newTagger(mintKey)} }

// Mint writes the key that has this id and this secret. The id should be a
// UUIDv7 and the secret must be 32 bytes of crypto/rand; any value of either
// gives a key that [Minter.Parse] takes.
func (m *Minter) Mint(id [16]byte, secret [32]byte) string {
	var key [Length]byte
	body := key[copy(key[:], Prefix):]
	encode(body[:idLength], id[:])
	encode(body[idLength:signedLength], secret[:])
	tag := m.tags.tag(string(body[:signedLength]))
	copy(body[signedLength:], tag[:])
	return string(key[:])
}

// Parse returns the id in a key that this installation minted, and otherwise
// [ErrMalformed] or [ErrUnminted]. That is no proof that such a key exists or
// that its secret is right, only that asking for it is worth the trouble.
//
// Parse does not allocate. Whatever it refuses, of any form and length, takes
// the time of one HMAC, so that the two errors cannot be told apart by time.
func (m *Minter) Parse(s string) (id [16]byte, err error) {
	shaped := len(s) == Length && s[:len(Prefix)] == Prefix
	body := dummy
	if shaped {
		body = s[len(Prefix):]
	}
	number, secret, tag := body[:idLength], body[idLength:signedLength], body[signedLength:]

	// Digits sort as their values do, so a part of fixed width is in range if
	// it sorts no later than the greatest number that fits.
	wellFormed := isBase62(body) && number <= maxID && secret <= maxSecret && tag <= maxTag
	want := m.tags.tag(body[:signedLength])
	minted := subtle.ConstantTimeCompare(want[:], []byte(tag)) == 1

	switch {
	case !shaped || !wellFormed:
		return id, ErrMalformed
	case !minted:
		return id, ErrUnminted
	}
	return decodeID(number), nil
}

// digestDomain keeps the digests of [Digest] apart from any other use of
// SHA-256 on the same keys.
const digestDomain = "system-keys.v1\x00"

// Digest names a key in caches: SHA-256 of a domain and the whole key. It does
// not allocate for strings up to [MaxForeign]. With 256 random bits in the key a
// plain digest cannot be turned back, but it is still a credential's shadow:
// it belongs in memory, and neither in logs nor in a store.
func Digest(s string) [32]byte {
	if len(s) > Length {
		return digestForeign(s)
	}
	var buf [len(digestDomain) + Length]byte
	return sha256.Sum256(append(append(buf[:0], digestDomain...), s...))
}

// digestForeign is [Digest] with room for longer strings, which most need not clear.
func digestForeign(s string) [32]byte {
	var buf [len(digestDomain) + MaxForeign]byte
	return sha256.Sum256(append(append(buf[:0], digestDomain...), s...))
}
