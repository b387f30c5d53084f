package token

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
