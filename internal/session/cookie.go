// Package session keeps browsers signed in to the System page. What is over is
// removed from the store by a [Pruner].
package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The names of the cookies. The prefix __Host- makes a browser refuse one that
// another host of the domain has set, or that came without TLS (RFC 6265bis,
// section 4.1.3.2); it cannot be had where there is no TLS.
const (
	cookieTLS   = "__Host-system_keys_session"
	cookiePlain = "system_keys_session"
	// CookieLanguage is the language that was chosen. It is no secret.
	CookieLanguage = "system_keys_language"
)

// Lifetime is how long a session lasts.
const Lifetime = 8 * time.Hour

// Token is what a browser holds: 32 random bytes. It is a credential, and prints
// as nothing.
type Token struct{ bytes [32]byte }

// NewToken makes one.
func NewToken() Token {
	var t Token
	_, _ = rand.Read(t.bytes[:]) // never fails: crypto/rand
	return t
}

// Digest is what a store keeps of it. A fast hash is enough for 256 random bits.
func (t Token) Digest() [32]byte { return sha256.Sum256(t.bytes[:]) }

// String hides the token.
func (Token) String() string { return "[redacted]" }

// GoString hides the token under %#v.
func (Token) GoString() string { return "[redacted]" }

func name(secure bool) string {
	if secure {
		return cookieTLS
	}
	return cookiePlain
}

// Read returns the token of a request. Secure says that the client speaks TLS. A
// cookie that is there twice is none: one of the two was planted.
func Read(r *http.Request, secure bool) (Token, bool) {
	cookies := r.CookiesNamed(name(secure))
	if len(cookies) != 1 {
		return Token{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cookies[0].Value)
	if err != nil || len(b) != len(Token{}.bytes) {
		return Token{}, false
	}
	return Token{[32]byte(b)}, true
}

// Set has the browser keep the token for [Lifetime], for this host alone, and
// never show it to scripts or send it on the way from another site.
func Set(h http.Header, t Token, secure bool) {
	set(h, base64.RawURLEncoding.EncodeToString(t.bytes[:]), secure, int(Lifetime/time.Second))
}

// Clear has the browser forget the token.
func Clear(h http.Header, secure bool) { set(h, "", secure, -1) }

func set(h http.Header, value string, secure bool, maxAge int) {
	cookie := http.Cookie{ //nolint:gosec // Secure where there is TLS
		Name: name(secure), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
	h.Add("Set-Cookie", cookie.String())
}

// SetLanguage has the browser remember a choice.
func SetLanguage(h http.Header, language string, secure bool) {
	cookie := http.Cookie{ //nolint:gosec // as above
		Name: CookieLanguage, Value: language, Path: "/", MaxAge: int(365 * 24 * time.Hour / time.Second),
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
	h.Add("Set-Cookie", cookie.String())
}

// Strip takes the cookies of the System page out of a request that is handed on:
// they are nobody else's. The others stay as they are.
func Strip(h http.Header) {
	lines, ok := h["Cookie"]
	if !ok || !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "system_keys_") }) {
		return // nearly every request ends here
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		pairs := slices.DeleteFunc(strings.Split(line, ";"), func(pair string) bool {
			name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
			name = strings.TrimSpace(name)
			return name == cookieTLS || name == cookiePlain || name == CookieLanguage
		})
		if rest := strings.TrimSpace(strings.Join(pairs, ";")); rest != "" {
			kept = append(kept, rest)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}
