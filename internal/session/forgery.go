package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// What follows is bound to the browser's token, which no other site can read or
// set, and to who acts by it, so that a form that one admin has opened is not sent
// in the name of another. See "signed double-submit cookie" in OWASP's Cross-Site
// Request Forgery Prevention Cheat Sheet.

// CSRF is what scripts of the page send in a header, to show that they are of the
// page. It is good as long as the token is.
func (t Token) CSRF(actor string) string {
	return base64.RawURLEncoding.EncodeToString(t.mac("csrf", actor, nil))
}

// CheckCSRF reports whether it is the one of this token and actor. It compares in
// constant time.
func (t Token) CheckCSRF(actor, csrf string) bool {
	got, err := base64.RawURLEncoding.Strict().DecodeString(csrf)
	return err == nil && hmac.Equal(got, t.mac("csrf", actor, nil))
}

const (
	nonceBody = 16 + 8 // random bytes, seconds of the Unix epoch
	nonceMAC  = sha256.Size
)

// Nonce is what a form sends once, until [Lifetime] from now is over. That it is
// used once is for a store to see to, by its [NonceDigest].
func (t Token) Nonce(actor string, now time.Time) string {
	b := make([]byte, nonceBody, nonceBody+nonceMAC)
	_, _ = rand.Read(b[:16]) // never fails: crypto/rand
	binary.BigEndian.PutUint64(b[16:], uint64(now.Add(Lifetime).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, t.mac("nonce", actor, b)...))
}

// CheckNonce returns when a nonce of this token and actor is over, and whether it
// is good at now.
func (t Token) CheckNonce(actor, nonce string, now time.Time) (expires time.Time, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != nonceBody+nonceMAC || !hmac.Equal(b[nonceBody:], t.mac("nonce", actor, b[:nonceBody])) {
		return time.Time{}, false
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(b[16:nonceBody])), 0)
	return expires, now.Before(expires)
}

// NonceDigest is what a store keeps of a nonce that was used.
func NonceDigest(nonce string) [32]byte { return sha256.Sum256([]byte(nonce)) }

func (t Token) mac(purpose, actor string, body []byte) []byte {
	mac := hmac.New(sha256.New, t.bytes[:])
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write(body) // of a fixed length for each purpose
	mac.Write([]byte(actor))
	return mac.Sum(nil)
}
