package assertion

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"sync"
)

const (
	// sharedAlgorithm is the JOSE name of HMAC-SHA256 (RFC 7518 section 3.2).
	sharedAlgorithm = "HS256"
	// MinSecret is the least length of a secret, in bytes: that of a hash. Whoever sees an
	// assertion could guess a shorter one (RFC 7518 section 3.2, RFC 8725 section 3.5).
	MinSecret = sha256.Size
	// secretLabel is what the id of a secret is computed from; see [SecretID].
	secretLabel = "caddy-system-keys assertion secret"
)

// secret signs with HMAC-SHA256. It holds the secret in a function, so that whatever is
// printed does not show it.
type secret struct {
	header string // as that of a [key]
	macs   sync.Pool
}

// mac has computed the blocks of its secret before.
type mac struct {
	hash hash.Hash
	sum  [sha256.Size]byte
}

// newSecrets makes the secrets of a configuration. The error does not have their text.
func newSecrets(texts [][]byte) ([]*secret, error) {
	secrets := make([]*secret, 0, len(texts))
	for i, text := range texts {
		if len(text) < MinSecret {
			return nil, fmt.Errorf("assertion: secret, value %d: has less than %d bytes (openssl rand -base64 32 makes one)", i+1, MinSecret)
		}
		secrets = append(secrets, newSecret(text))
	}
	return secrets, nil
}

func newSecret(text []byte) *secret {
	return &secret{
		header: encodeHeader(sharedAlgorithm, SecretID(text)),
		macs:   sync.Pool{New: func() any { return &mac{hash: hmac.New(sha256.New, text)} }},
	}
}

// SecretID is the id by which an assertion names its secret: a MAC of a label under the
// secret, cut to 128 bits. Upstreams compute it too. It gives no more away than any
// signature does, where a plain digest could be known from elsewhere. It is no signature
// itself, since what is signed has a dot in it. Secrets with the same id sign alike.
func SecretID(text []byte) string {
	m := hmac.New(sha256.New, text)
	m.Write([]byte(secretLabel))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

func (s *secret) appendSignature(token []byte) []byte {
	m := s.macs.Get().(*mac)
	defer s.macs.Put(m)
	m.hash.Reset()
	m.hash.Write(token)
	return base64.RawURLEncoding.AppendEncode(append(token, '.'), m.hash.Sum(m.sum[:0]))
}
