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
// so that no two strings stand for one key. testdata has vectors for programs in
// other languages.
//
// # What the tag is for
//
// The tag tells strings that this installation minted from all others, before anything
// is looked up or hashed with Argon2id. It protects the machine and not the keys. A key is
// protected by its 256 random bits. A forged tag buys an attacker one query, and guessing
// a tag takes 2^64 requests.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
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

// dummyKey is read in place of a string that does not have the shape of a key, so that such
// a string takes as long as any other.
const dummyKey = Prefix + "0000000000000000000000000000000000000000000000000000000000000000000000000000"

// ErrMalformed reports a string that no installation could have minted. It never contains
// the input. The client must not be told that it is this, and not a wrong tag.
var ErrMalformed = errors.New("not a system key")

// Minter mints the keys of one installation, and tells them from all other
// strings. It is immutable and safe for concurrent use.
type Minter struct{ tags tagger }

// New returns the minter for an installation's mint key.
func New(mintKey [32]byte) *Minter { return &Minter{tags: newTagger(mintKey)} }

// Mint writes the key that has this id and this secret. The id should be a
// UUIDv7 and the secret must be 32 bytes of crypto/rand; any value of either
// gives a key that [Read] and [Minter.Minted] take.
func (m *Minter) Mint(id [16]byte, secret [32]byte) string {
	var key [Length]byte
	body := key[copy(key[:], Prefix):]
	encode(body[:idLength], id[:])
	encode(body[idLength:signedLength], secret[:])
	tag := m.tags.tag(string(body[:signedLength]))
	copy(body[signedLength:], tag[:])
	return string(key[:])
}

// Read returns the id in a string that has the form of a key, and its [Digest], without a
// look at its tag. For any other string the error is [ErrMalformed], and both are zero. Zero
// is the digest of no known string. An id does not prove that the key exists, or that its
// secret is right.
//
// Read and [Minter.Minted] do not allocate. Each takes the same time for all strings,
// whatever their form and length. So a client cannot tell by time why it was refused.
func Read(s string) (id [16]byte, digest [32]byte, err error) {
	key, shaped := sizedAsKey(s)
	body := key[len(Prefix):]
	number, secret, tag := body[:idLength], body[idLength:signedLength], body[signedLength:]
	// Digits sort as their values do. So a part of fixed width is in range if it does not
	// sort behind the greatest number that fits.
	wellFormed := isBase62(body) && number <= maxID && secret <= maxSecret && tag <= maxTag
	id, digest = decodeID(number), Digest(key)
	if !shaped || !wellFormed {
		return [16]byte{}, [32]byte{}, ErrMalformed
	}
	return id, digest, nil
}

// Minted reports whether the tag of a key was made with this installation's mint key. A
// string without the form of a key has no such tag.
func (m *Minter) Minted(s string) bool {
	key, shaped := sizedAsKey(s)
	signed, tag := key[len(Prefix):len(Prefix)+signedLength], key[len(Prefix)+signedLength:]
	want := m.tags.tag(signed)
	return subtle.ConstantTimeCompare(want[:], []byte(tag)) == 1 && shaped
}

// sizedAsKey returns s, or [dummyKey] if s has not the prefix and the length of a key.
func sizedAsKey(s string) (key string, is bool) {
	if len(s) != Length || s[:len(Prefix)] != Prefix {
		return dummyKey, false
	}
	return s, true
}

// tagger computes the tags of one mint key: HMAC-SHA256 (RFC 2104), written out
// for messages of one length. Unlike crypto/hmac it keeps no state between
// messages, so no message costs an allocation or needs a pool. Tests compare it with
// crypto/hmac.
type tagger struct {
	// inner and outer are the mint key XORed with RFC 2104's ipad and opad.
	inner, outer [sha256.BlockSize]byte
}

func newTagger(mintKey [32]byte) tagger {
	var t tagger
	copy(t.inner[:], mintKey[:])
	copy(t.outer[:], mintKey[:])
	for i := range sha256.BlockSize {
		t.inner[i] ^= 0x36
		t.outer[i] ^= 0x5c
	}
	return t
}

// tag returns the tag in base62. Signed is the id and the secret as they are written,
// signedLength characters.
func (t *tagger) tag(signed string) (tag [tagLength]byte) {
	var message [sha256.BlockSize + signedLength]byte
	copy(message[:], t.inner[:])
	copy(message[sha256.BlockSize:], signed)
	inner := sha256.Sum256(message[:])

	var outer [sha256.BlockSize + sha256.Size]byte
	copy(outer[:], t.outer[:])
	copy(outer[sha256.BlockSize:], inner[:])
	sum := sha256.Sum256(outer[:])

	encodeUint64(&tag, binary.BigEndian.Uint64(sum[:]))
	return tag
}

// digestDomain makes [Digest] differ from any other use of SHA-256 on the same keys.
const digestDomain = "system-keys.v1\x00"

// Digest names a key in caches: SHA-256 of a domain and the whole key. It does not
// allocate for strings up to [MaxForeign]. A key has 256 random bits, so nobody can find it
// from a plain digest. The digest is confidential all the same: it belongs in memory, and
// neither in logs nor in a store.
func Digest(s string) [32]byte {
	if len(s) > Length {
		return digestForeign(s)
	}
	var buf [len(digestDomain) + Length]byte
	return sha256.Sum256(append(append(buf[:0], digestDomain...), s...))
}

// digestForeign is [Digest] with a larger buffer. It is a function of its own because
// clearing that buffer would cost every key.
func digestForeign(s string) [32]byte {
	var buf [len(digestDomain) + MaxForeign]byte
	return sha256.Sum256(append(append(buf[:0], digestDomain...), s...))
}

// MaxForeign is the length of the longest key of another service, in bytes, prefix
// included.
const MaxForeign = len(Prefix) + 256

// tokenByte marks the bytes of a b64token, without the "=" at its end (RFC 6750 section
// 2.1).
var tokenByte = func() (table [256]bool) {
	for _, c := range []byte(alphabet + "-._~+/") {
		table[c] = true
	}
	return table
}()

// Foreign reports whether s may be a key that another service has minted: the prefix, and
// up to 256 more characters of a bearer token. A key that this installation minted has
// that form too, so [Minter.Minted] must come first.
func Foreign(s string) bool {
	if len(s) <= len(Prefix) || len(s) > MaxForeign || s[:len(Prefix)] != Prefix {
		return false
	}
	end := len(s)
	for end > len(Prefix) && s[end-1] == '=' {
		end--
	}
	for i := len(Prefix); i < end; i++ {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return end > len(Prefix)
}

// ForeignDigests are what the index of a store has a key of another service under, with
// each of the secrets. Such a key may be weak: whoever reads the store could find it by
// guessing from a plain digest, at a much lower cost than from the Argon2id hash beside
// it. So a key goes under
//
//	digest = HMAC(secret, "adopt\0" ‖ key)
//	era    = HMAC(secret, "adopt era\0")
//
// with the secret of the installation, which no store holds.
func ForeignDigests(secrets [][]byte, key string) [][32]byte { return macs(secrets, "adopt\x00"+key) }

// ForeignEras tell which entries of the index can be found by the secrets.
func ForeignEras(secrets [][]byte) [][32]byte { return macs(secrets, "adopt era\x00") }

func macs(secrets [][]byte, text string) [][32]byte {
	all := make([][32]byte, len(secrets))
	for i, secret := range secrets {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(text))
		all[i] = [32]byte(h.Sum(nil))
	}
	return all
}
