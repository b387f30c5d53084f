package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/session"
)

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
