package upstream

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
)

const (
	// sharedAlgorithm is the only one that a verifier of [NewShared] accepts (RFC 7518
	// section 3.2).
	sharedAlgorithm = "HS256"
	// minSecret is the length of a hash, in bytes. A shorter secret could be guessed from a
	// single assertion (RFC 7518 section 3.2, RFC 8725 section 3.5).
	minSecret = sha256.Size
	// secretLabel is what the id of a secret is computed from; see [newSecret].
	secretLabel = "caddy-system-keys assertion secret"
)

// NewShared makes a verifier of assertions that the proxy signs with a secret which this
// service has too:
//
//	assertion lumio-api {
//		secret {file./run/secrets/lumio-api}
//	}
//
// It verifies without public keys, and in about a fortieth of the time. But whoever has
// the secret can sign, this service included. So each audience has secrets of its own,
// and no other service knows them. An assertion names its secret, so several secrets are
// accepted at once while one is replaced.
//
// Blanks and line ends around a secret do not count, so the content of a file will do.
// NewShared panics if the audience is empty, or if a secret has less than 32 bytes.
// [Verifier.With] takes the options.
func NewShared[S ~string | ~[]byte](audience string, secrets ...S) *Verifier {
	if len(secrets) == 0 {
		panic("upstream: a secret is required")
	}
	v := newVerifier(audience)
	v.shared = make(map[string]*secret, len(secrets))
	v.headers = make(map[string]string, len(secrets))
	for i, text := range secrets {
		trimmed := strings.TrimSpace(string(text))
		if len(trimmed) < minSecret {
			panic(fmt.Sprintf("upstream: secret %d has less than %d bytes", i+1, minSecret))
		}
		id, s := newSecret([]byte(trimmed))
		v.shared[id] = s
		v.headers[sharedHeader(id)] = id
	}
	return v
}

// sharedHeader is the JOSE header as the proxy writes it for a secret, encoded.
func sharedHeader(id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + sharedAlgorithm + `","kid":"` + id + `","typ":"` + tokenType + `"}`))
}

// secret computes MACs. It holds its secret in a function, so that a verifier that is
// printed does not show it.
type secret struct {
	macs sync.Pool // of *mac
}

// mac is HMAC-SHA256, with the blocks of the secret computed once.
type mac struct {
	hash hash.Hash
	text []byte // what is hashed, so that a text need not be copied anew each time
	sum  [sha256.Size]byte
}

// newSecret returns a secret and its id. The id is a MAC of a label under the secret. It
// gives no more away than any signature. It is no signature itself, since what is signed
// has a dot in it. The proxy does the same (internal/assertion).
func newSecret(text []byte) (id string, s *secret) {
	s = &secret{macs: sync.Pool{New: func() any { return &mac{hash: hmac.New(sha256.New, text)} }}}
	sum := s.sign(secretLabel)
	return base64.RawURLEncoding.EncodeToString(sum[:16]), s
}

// sign returns the MAC of a text.
func (s *secret) sign(text string) [sha256.Size]byte {
	m := s.macs.Get().(*mac)
	defer s.macs.Put(m)
	m.text = append(m.text[:0], text...)
	m.hash.Reset()
	m.hash.Write(m.text)
	m.hash.Sum(m.sum[:0])
	return m.sum
}

var errSignature = errors.New("its signature is wrong")

// authenticate reports whether the proxy has signed a token.
func (v *Verifier) authenticate(ctx context.Context, t *token) error {
	if v.shared != nil {
		s := v.shared[t.keyID]
		if s == nil {
			return invalid(errors.New("it was signed with another secret"))
		}
		if sum := s.sign(t.signed); !hmac.Equal(sum[:], t.signature) {
			return invalid(errSignature)
		}
		return nil
	}
	key, err := v.keys.find(ctx, t.keyID)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key, []byte(t.signed), t.signature) {
		return invalid(errSignature)
	}
	return nil
}
