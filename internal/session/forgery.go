package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

const (
	nonceBody = 16 + 8 // random bytes, seconds of the Unix epoch
	nonceMAC  = sha256.Size
)

// Nonce makes a text that a form sends once, within [Lifetime] from now. A store
// keeps its [NonceDigest], so that nobody sends it twice.
//
// A nonce is bound to the browser's token, which no other site can read or set, and
// to the actor: a form that one admin has opened cannot be sent in the name of
// another. See "signed double-submit cookie" in OWASP's Cross-Site Request Forgery
// Prevention Cheat Sheet.
func (t Token) Nonce(actor string, now time.Time) string {
	b := make([]byte, nonceBody, nonceBody+nonceMAC)
	_, _ = rand.Read(b[:16]) // never fails: crypto/rand
	binary.BigEndian.PutUint64(b[16:], uint64(now.Add(Lifetime).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, t.mac(actor, b)...))
}

// CheckNonce returns when a nonce of this token and actor is over, and whether it
// is good at now.
func (t Token) CheckNonce(actor, nonce string, now time.Time) (expires time.Time, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != nonceBody+nonceMAC || !hmac.Equal(b[nonceBody:], t.mac(actor, b[:nonceBody])) {
		return time.Time{}, false
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(b[16:nonceBody])), 0)
	return expires, now.Before(expires)
}

// NonceDigest is what a store keeps of a nonce that was used.
func NonceDigest(nonce string) [32]byte { return sha256.Sum256([]byte(nonce)) }

func (t Token) mac(actor string, body []byte) []byte {
	mac := hmac.New(sha256.New, t.bytes[:])
	mac.Write([]byte("nonce\x00")) // nothing else that is computed from the token can be a nonce
	mac.Write(body)                // of a fixed length
	mac.Write([]byte(actor))
	return mac.Sum(nil)
}
