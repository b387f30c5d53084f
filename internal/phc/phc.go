// Package phc hashes system keys with Argon2id (RFC 9106) and reads the hashes
// back, in the PHC string format that other implementations share:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
//
// m is the memory in KiB, t the number of iterations, p the parallelism; salt
// and hash are standard base64 without padding.
//
// A stored hash says itself how much work it costs to verify, and other services may write
// to the database. So [Parse] accepts one spelling of each hash, and refuses a hash that
// asks for more than the bounds of this package. It also refuses Argon2's optional secret
// and associated data (keyid and data in a PHC string), because golang.org/x/crypto/argon2
// supports neither.
package phc

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Sizes in bytes: first those that [Hash] writes, then the bounds of [Parse].
const (
	saltSize    = 16
	hashSize    = 32
	minSaltSize = 8
	maxSaltSize = 64
	minHashSize = 16
	maxHashSize = 64
)

// maxLength is longer than any valid string. A longer string is refused before it is read.
const maxLength = 256

const (
	variant = "argon2id"
	version = "v=19" // argon2.Version, 0x13
)

// The errors of [Parse]. They never contain the input.
var (
	// ErrMalformed reports a string that is no Argon2id hash of version 19, or that is
	// not in the canonical spelling.
	ErrMalformed = errors.New("not an Argon2id PHC string")
	// ErrOutOfBounds reports a hash or parameters with less or more than is allowed.
	// [Params.Validate] returns it too.
	ErrOutOfBounds = errors.New("out of bounds")
)

// Hashed is a hash that was read from a PHC string. Its parameters are within the bounds,
// because only [Parse] makes one. It is immutable and safe for concurrent use.
type Hashed struct {
	params     Params
	salt, hash []byte
}

// Hash hashes a key under these parameters and a fresh salt, 16 bytes of
// crypto/rand, and returns the PHC string with a hash of 32 bytes. It takes
// p.Memory KiB of memory while it runs. The error is that of [Params.Validate].
func Hash(key string, p Params) (string, error) {
	if err := p.Validate(); err != nil {
		return "", err
	}
	h := Hashed{params: p, salt: make([]byte, saltSize)}
	_, _ = rand.Read(h.salt) // never fails: crypto/rand
	h.hash = h.derive(key, hashSize)
	return h.encode(), nil
}

// Parse reads a PHC string. It is strict: the parameters m, t and p in this order, numbers
// without sign or leading zeros, base64 without padding, line ends or stray bits. Anything
// else is [ErrMalformed]. The error is [ErrOutOfBounds] if the parameters are not valid
// ([Params.Validate]), if the salt is not 8 to 64 bytes long, or if the hash is not 16 to
// 64 bytes long.
func Parse(s string) (*Hashed, error) {
	if len(s) > maxLength {
		return nil, ErrMalformed
	}
	fields := strings.Split(s, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != variant || fields[2] != version {
		return nil, ErrMalformed
	}
	params, err := parseParams(fields[3])
	if err != nil {
		return nil, err
	}
	salt, err := parseBytes(fields[4], "salt", minSaltSize, maxSaltSize)
	if err != nil {
		return nil, err
	}
	hash, err := parseBytes(fields[5], "hash", minHashSize, maxHashSize)
	if err != nil {
		return nil, err
	}
	return &Hashed{params: params, salt: salt, hash: hash}, nil
}

// Params returns the parameters that the hash was made with.
func (h *Hashed) Params() Params { return h.params }

// Verify reports whether the hash was made of this key. It takes the time and
// memory that the parameters ask for; the comparison takes constant time.
func (h *Hashed) Verify(key string) bool {
	return subtle.ConstantTimeCompare(h.derive(key, len(h.hash)), h.hash) == 1
}

// Format redacts the hash under every verb of fmt, so that a value that is logged by
// mistake shows nothing.
func (h *Hashed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

func (h *Hashed) derive(key string, size int) []byte {
	return argon2.IDKey([]byte(key), h.salt, h.params.Iterations, h.params.Memory, h.params.Parallelism, uint32(size))
}

// encode writes the PHC string that [Parse] reads.
func (h *Hashed) encode() string {
	return "$" + variant + "$" + version + "$" + h.params.encode() +
		"$" + base64.RawStdEncoding.EncodeToString(h.salt) +
		"$" + base64.RawStdEncoding.EncodeToString(h.hash)
}

// parseBytes reads the salt or the hash. Name is for the error.
func parseBytes(s, name string, least, most int) ([]byte, error) {
	b, err := base64.RawStdEncoding.DecodeString(s)
	// The decoder ignores line ends, and bits that do not fill a byte. To encode again
	// finds both.
	if err != nil || base64.RawStdEncoding.EncodeToString(b) != s {
		return nil, ErrMalformed
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("%s %w: must be %d to %d bytes long", name, ErrOutOfBounds, least, most)
	}
	return b, nil
}

// parseNumber reads a decimal number as strconv.Itoa would write it.
func parseNumber(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	switch {
	case errors.Is(err, strconv.ErrRange) && s[0] != '0':
		return 0, ErrOutOfBounds
	case err != nil || s[0] == '0' && s != "0":
		return 0, ErrMalformed
	}
	return uint32(n), nil
}
