package assertion

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// key is a key pair. The private half is in no field that is printed or encoded.
type key struct {
	public  store.SigningKey
	private ed25519.PrivateKey
	// header is that of every token, encoded, with the dot behind it.
	header string
}

// newKey makes a key, named by the thumbprint of its public half.
func newKey() (*key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return pairOf(public, private)
}

func pairOf(public ed25519.PublicKey, private ed25519.PrivateKey) (*key, error) {
	k := &key{public: store.SigningKey{Public: [32]byte(public)}, private: private}
	half, err := jwk.Import(public)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	print, err := half.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	k.public.ID = base64.RawURLEncoding.EncodeToString(print)
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}{jwa.EdDSA().String(), k.public.ID, Type})
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	k.header = base64.RawURLEncoding.EncodeToString(header) + "."
	return k, nil
}

// sign makes a token of the payload: the compact serialization of RFC 7515
// section 7.1. A library would encode the same header for each.
func (k *key) sign(payload []byte) string {
	encoding := base64.RawURLEncoding
	length := len(k.header) + encoding.EncodedLen(len(payload))
	token := make([]byte, 0, length+1+encoding.EncodedLen(ed25519.SignatureSize))
	token = append(token, k.header...)
	token = encoding.AppendEncode(token, payload)
	signature := ed25519.Sign(k.private, token)
	token = append(token, '.')
	return string(encoding.AppendEncode(token, signature))
}

// keySet renders public keys as a JSON Web Key Set (RFC 7517 section 5).
func keySet(keys []store.SigningKey) ([]byte, error) {
	set := jwk.NewSet()
	for _, k := range keys {
		half, err := jwk.Import(ed25519.PublicKey(k.Public[:]))
		if err != nil {
			return nil, fmt.Errorf("render the key set: %w", err)
		}
		for name, value := range map[string]any{
			jwk.KeyIDKey: k.ID, jwk.AlgorithmKey: jwa.EdDSA(), jwk.KeyUsageKey: jwk.ForSignature,
		} {
			if err := half.Set(name, value); err != nil {
				return nil, fmt.Errorf("render the key set: %w", err)
			}
		}
		if err := set.AddKey(half); err != nil {
			return nil, fmt.Errorf("render the key set: %w", err)
		}
	}
	body, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("render the key set: %w", err)
	}
	return body, nil
}

// How long things are, and why each is longer than another.
const (
	// fresh is how long an instance serves a set without reading it again.
	fresh = 500 * time.Millisecond
	// settle is how long a key is published before its first use: after it no
	// instance serves a set that was read before. Verifiers that have an older set
	// ask for a newer one when they meet a key that they do not know.
	settle = 2 * fresh
	// life is how long a key is published for without being renewed, which is how
	// long that of an instance that has crashed stays.
	life = 10 * time.Minute
	// renewal is how often an instance moves on the expiry of its keys.
	renewal = time.Minute
	// staleFor is how long an instance serves a set while the store cannot be read:
	// as long as no key in it can have expired whose instance lives.
	staleFor = life - 2*renewal
	// rotation is how long a key signs.
	rotation = 24 * time.Hour
	// overlap is how long its successor is published before its first use, so that
	// also verifiers that only look now and then know it by then.
	overlap = time.Hour
	// afterlife is how long a key stays published that signs no more: its last
	// assertion, and clocks that differ.
	afterlife = MaxTTL + time.Minute
	// margin is what the clocks of this instance and of the store may differ by in
	// the life of a key. It includes the time that a statement takes.
	margin = 30 * time.Second

	// storeTimeout bounds one question to the store.
	storeTimeout = 2 * time.Second
	// retry is how soon a question is asked again that was not answered.
	retry = time.Second
	// patience is how long a request waits for a key that is being published.
	patience = 3 * time.Second
	// look is how often it looks.
	look = 10 * time.Millisecond
)
