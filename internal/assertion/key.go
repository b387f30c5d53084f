package assertion

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// algorithm is the JOSE name of Ed25519 signatures (RFC 8037 section 3.1).
const algorithm = "EdDSA"

// key is a key pair. The private half is in no field that is printed or encoded.
type key struct {
	public  store.SigningKey
	private ed25519.PrivateKey
	// header is the JOSE header of every token, encoded, with the dot that follows it.
	header string
}

// newKey makes a key. Its id is the thumbprint of its public half (RFC 8037 appendix A.3).
func newKey() *key {
	public, private, _ := ed25519.GenerateKey(nil) // never fails: crypto/rand
	k := &key{public: store.SigningKey{Public: [32]byte(public)}, private: private}
	thumbprint := sha256.Sum256(encodeJSON(newWebKey(k.public.Public)))
	k.public.ID = base64.RawURLEncoding.EncodeToString(thumbprint[:])
	k.header = encodeHeader(algorithm, k.public.ID)
	return k
}

// encodeHeader renders the JOSE header of every token of a key, with the dot that follows.
func encodeHeader(algorithm, keyID string) string {
	header := encodeJSON(struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}{algorithm, keyID, Type})
	return base64.RawURLEncoding.EncodeToString(header) + "."
}

func (k *key) appendSignature(token []byte) []byte {
	return base64.RawURLEncoding.AppendEncode(append(token, '.'), ed25519.Sign(k.private, token))
}

// signs appends a dot and the signature of a token to it.
type signs interface{ appendSignature(token []byte) []byte }

// buffers hold tokens while they are made.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// compact makes a token of the payload, in the compact serialization of RFC 7515 section
// 7.1. A library would encode the same header again for each token.
func compact(header string, payload []byte, by signs) string {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	token := append((*buffer)[:0], header...)
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	token = by.appendSignature(token)
	*buffer = token
	return string(token)
}

// webKey is a public key as a JSON Web Key (RFC 8037 section 2). A thumbprint covers the
// required members alone, in alphabetical order (RFC 7638 section 3.2). So the optional
// members are left out while they are empty, and the fields are in that order.
type webKey struct {
	Algorithm string `json:"alg,omitempty"`
	Curve     string `json:"crv"`
	KeyID     string `json:"kid,omitempty"`
	KeyType   string `json:"kty"`
	Use       string `json:"use,omitempty"`
	X         string `json:"x"`
}

// newWebKey returns the required members for a public key.
func newWebKey(public [32]byte) webKey {
	return webKey{Curve: "Ed25519", KeyType: "OKP", X: base64.RawURLEncoding.EncodeToString(public[:])}
}

// keySet renders public keys as a JSON Web Key Set (RFC 7517 section 5).
func keySet(keys []store.SigningKey) []byte {
	set := struct {
		Keys []webKey `json:"keys"`
	}{make([]webKey, 0, len(keys))} // an empty list is not null
	for _, k := range keys {
		member := newWebKey(k.Public)
		member.Algorithm, member.KeyID, member.Use = algorithm, k.ID, "sig"
		set.Keys = append(set.Keys, member)
	}
	return encodeJSON(set)
}

// The times in the life of a key, and why each is longer than another.
const (
	// setFreshFor is how long an instance serves a set without reading it again.
	setFreshFor = 500 * time.Millisecond
	// publishLead is how long a key is published before its first use. After that time no
	// instance serves a set that was read before. A verifier that has an older set asks
	// for a newer one when it meets a key that it does not know.
	publishLead = 2 * setFreshFor
	// keyLife is how long a key stays published without being renewed. The key of an
	// instance that has crashed stays for that long.
	keyLife = 18 * time.Minute
	// renewInterval is how often an instance extends the expiry of its keys. It costs the
	// store some statements, also while nothing is signed.
	renewInterval = 5 * time.Minute
	// setStaleFor is how long an instance serves a set while the store cannot be read. For
	// that long no key in the set can have expired if its instance lives.
	setStaleFor = keyLife - 2*renewInterval
	// rotateAfter is how long a key signs.
	rotateAfter = 24 * time.Hour
	// successorLead is how long the next key is published before its first use. A verifier
	// that reads the set only now and then knows the key by then.
	successorLead = time.Hour
	// retiredLife is how long a key stays published after it has signed its last
	// assertion: the life of that assertion, and a minute for clocks that differ.
	retiredLife = MaxTTL + time.Minute
	// clockMargin is how much the clocks of this instance and of the store may differ over
	// the life of a key. It includes the time that a statement takes.
	clockMargin = 30 * time.Second

	// storeTimeout bounds one call on the store, and retryInterval is the pause after a
	// call that has failed.
	storeTimeout  = 2 * time.Second
	retryInterval = time.Second
	// keyWait is how long a request waits for a key that is being published, and
	// keyPoll how often it looks for the key meanwhile.
	keyWait = 3 * time.Second
	keyPoll = 10 * time.Millisecond
)
