// Package session keeps browsers signed in to the System page. [Prune] removes sessions
// that have expired from the store.
package session

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The names of the cookies. A browser refuses a cookie with the prefix __Host- if another
// host of the domain has set it, or if it came without TLS (RFC 6265bis section 4.1.3.2).
// So without TLS the cookie has another name.
const (
	cookieTLS   = "__Host-system_keys_session"
	cookiePlain = "system_keys_session"
	// cookieLanguage holds the language that the user has chosen. It is no secret.
	cookieLanguage = "system_keys_language"
)

// Scope is what a browser reaches a System page by.
type Scope struct {
	// Secure says that the browser speaks TLS.
	Secure bool
	// Mount is the path below which the page is, without a slash at the end. It is empty for
	// the root. The cookies of two pages on one host have different names, since __Host- does
	// not allow them different paths.
	Mount string
}

// name is the name of a cookie in this scope.
func (s Scope) name(cookie string) string {
	if s.Mount == "" {
		return cookie
	}
	digest := sha256.Sum256([]byte(s.Mount))
	return cookie + "_" + hex.EncodeToString(digest[:4])
}

// token is the name of the cookie that holds the token.
func (s Scope) token() string {
	if s.Secure {
		return s.name(cookieTLS)
	}
	return s.name(cookiePlain)
}

// Lifetime is how long a session lasts.
const Lifetime = 8 * time.Hour

// Token is the browser's half of a session: 32 random bytes. It is a credential, so it is
// never printed.
type Token struct{ bytes [32]byte }

// NewToken makes a random token.
func NewToken() Token {
	var t Token
	_, _ = rand.Read(t.bytes[:]) // never fails: crypto/rand
	return t
}

// Digest names the token in a store. A fast hash is enough for 256 random bits.
func (t Token) Digest() [32]byte { return sha256.Sum256(t.bytes[:]) }

// String hides the token.
func (Token) String() string { return "[redacted]" }

// GoString hides the token under %#v.
func (Token) GoString() string { return "[redacted]" }

// Read returns the token of a request. If the cookie is there twice, somebody has planted
// one of the two, and neither counts.
func Read(r *http.Request, s Scope) (Token, bool) {
	cookies := r.CookiesNamed(s.token())
	if len(cookies) != 1 {
		return Token{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cookies[0].Value)
	if err != nil || len(b) != len(Token{}.bytes) {
		return Token{}, false
	}
	return Token{[32]byte(b)}, true
}

// Set asks the browser to keep the token for [Lifetime].
func Set(h http.Header, t Token, s Scope) {
	setCookie(h, s.token(), base64.RawURLEncoding.EncodeToString(t.bytes[:]), s.Secure, int(Lifetime/time.Second))
}

// Clear asks the browser to forget the token.
func Clear(h http.Header, s Scope) { setCookie(h, s.token(), "", s.Secure, -1) }

// Language returns the chosen language, or nothing.
func Language(r *http.Request, s Scope) string {
	cookie, err := r.Cookie(s.name(cookieLanguage))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// SetLanguage asks the browser to keep the chosen language for a year.
func SetLanguage(h http.Header, language string, s Scope) {
	setCookie(h, s.name(cookieLanguage), language, s.Secure, int(365*24*time.Hour/time.Second))
}

// setCookie sets a cookie for this host alone. Scripts cannot read it, and the browser
// does not send it with requests from another site. MaxAge is in seconds; less than zero
// deletes the cookie.
func setCookie(h http.Header, name, value string, secure bool, maxAge int) {
	cookie := http.Cookie{ //nolint:gosec // Secure where there is TLS
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
	h.Add("Set-Cookie", cookie.String())
}

// isOurs reports whether a cookie has one of our names, in any scope.
func isOurs(cookie string) bool {
	for _, name := range []string{cookieTLS, cookiePlain, cookieLanguage} {
		if rest, found := strings.CutPrefix(cookie, name); found && (rest == "" || rest[0] == '_') {
			return true
		}
	}
	return false
}

// Strip takes the cookies of all System pages out of a request that is handed on. No other
// service may see them. Other cookies stay as they are.
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
			return isOurs(name)
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

const (
	nonceRandom = 16              // bytes
	nonceBody   = nonceRandom + 8 // the random bytes, and the expiry in seconds of the Unix epoch
	nonceMAC    = sha256.Size
)

// Nonce makes a text that a form sends once, within [Lifetime] from now. A store keeps the
// [NonceDigest] of each nonce that was used, so that nobody can use it twice.
//
// A nonce is bound to the browser's token, which no other site can read or set. It is also
// bound to the actor, so that a form that one admin has opened cannot be sent in the name
// of another. See "signed double-submit cookie" in OWASP's Cross-Site Request Forgery
// Prevention Cheat Sheet.
func (t Token) Nonce(actor string, now time.Time) string {
	b := make([]byte, nonceBody, nonceBody+nonceMAC)
	_, _ = rand.Read(b[:nonceRandom]) // never fails: crypto/rand
	binary.BigEndian.PutUint64(b[nonceRandom:], uint64(now.Add(Lifetime).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, t.nonceMAC(actor, b)...))
}

// CheckNonce reports whether a nonce belongs to this token and actor and has not expired,
// and returns when it expires.
func (t Token) CheckNonce(actor, nonce string, now time.Time) (expires time.Time, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != nonceBody+nonceMAC || !hmac.Equal(b[nonceBody:], t.nonceMAC(actor, b[:nonceBody])) {
		return time.Time{}, false
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(b[nonceRandom:nonceBody])), 0)
	return expires, now.Before(expires)
}

// NonceDigest names a nonce in a store.
func NonceDigest(nonce string) [32]byte { return sha256.Sum256([]byte(nonce)) }

func (t Token) nonceMAC(actor string, body []byte) []byte {
	mac := hmac.New(sha256.New, t.bytes[:])
	mac.Write([]byte("nonce\x00")) // no other MAC under the token can pass for a nonce
	mac.Write(body)                // has a fixed length, so the actor needs no separator
	mac.Write([]byte(actor))
	return mac.Sum(nil)
}

const (
	// pruneInterval is how often the store is searched for sessions that have expired.
	pruneInterval = 10 * time.Minute
	pruneTimeout  = 10 * time.Second
	pruneLimit    = 1000
	// pruneGrace is how long a nonce is kept after its expiry. Without it an instance
	// whose clock is behind would accept the nonce once more.
	pruneGrace = time.Hour
)

// Prune starts to remove expired sessions and nonces, at once and then every ten minutes.
// Any number of instances may do so at the same time. The caller closes the worker.
func Prune(sessions store.Sessions, now func() time.Time, logger *slog.Logger) *worker.Worker {
	step := func(ctx context.Context) (more bool, err error) {
		n, err := sessions.PruneSessions(ctx, now().Add(-pruneGrace), pruneLimit)
		return n > 0, err
	}
	return worker.Start(worker.Work{
		Turn:    func(ctx context.Context) error { return worker.Repeat(ctx, pruneTimeout, step) },
		Every:   pruneInterval,
		Failing: func(err error) { logger.Warn("sessions that are over are not removed", slog.Any("error", err)) },
	})
}
