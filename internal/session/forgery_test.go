package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/session"
)

func TestCSRFIsOfOneTokenAndActor(t *testing.T) {
	t.Parallel()
	token := session.NewToken()
	good := token.CSRF("system_key\x00a")
	if !token.CheckCSRF("system_key\x00a", good) {
		t.Fatal("the one that was made is refused")
	}
	for name, ok := range map[string]bool{
		"another token":    session.NewToken().CheckCSRF("system_key\x00a", good),
		"another actor":    token.CheckCSRF("system_key\x00b", good),
		"none":             token.CheckCSRF("system_key\x00a", ""),
		"cut":              token.CheckCSRF("system_key\x00a", good[:len(good)-1]),
		"another spelling": token.CheckCSRF("system_key\x00a", good+"="),
		"a nonce":          token.CheckCSRF("system_key\x00a", token.Nonce("system_key\x00a", time.Unix(1e9, 0))),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestANonceIsOfOneTokenAndActorAndTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	token := session.NewToken()
	good := token.Nonce("a", now)
	expires, ok := token.CheckNonce("a", good, now)
	if !ok || !expires.Equal(now.Add(session.Lifetime)) {
		t.Fatalf("good is %v, until %v", ok, expires)
	}
	if _, ok := token.CheckNonce("a", good, expires.Add(-time.Second)); !ok {
		t.Error("over before its time")
	}
	check := func(name string, token session.Token, actor, nonce string, at time.Time) {
		t.Helper()
		if _, ok := token.CheckNonce(actor, nonce, at); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	check("another token", session.NewToken(), "a", good, now)
	check("another actor", token, "b", good, now)
	check("when it is over", token, "a", good, expires)
	check("none", token, "a", "", now)
	check("a CSRF token", token, "a", token.CSRF("a"), now)
	for i := range good {
		other := "A"
		if good[i] == 'A' {
			other = "B"
		}
		check("changed", token, "a", good[:i]+other+good[i+1:], now)
	}
	if token.Nonce("a", now) == good {
		t.Error("two nonces are the same")
	}
	if session.NonceDigest(good) == session.NonceDigest(strings.ToLower(good)) {
		t.Error("two nonces have one digest")
	}
}
