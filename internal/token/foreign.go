package token

import (
	"crypto/hmac"
	"crypto/sha256"
)

// MaxForeign is the length of the longest key of another service, in bytes, prefix
// included.
const MaxForeign = len(Prefix) + 256

// tokenByte marks the bytes of a b64token but for the "=" at its end (RFC 6750
// section 2.1).
var tokenByte = func() (table [256]bool) {
	for _, c := range []byte(alphabet + "-._~+/") {
		table[c] = true
	}
	return table
}()

// Foreign reports whether s may be a key that another service has minted: the
// prefix, and up to 256 more characters of a bearer token. It says nothing about
// whether this installation minted it; ask [Minter.Parse] first.
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
