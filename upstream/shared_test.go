package upstream_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

const sharedVectorsFile = "testdata/vectors_shared.json"

// sharedOf is a secret of 32 characters that is always the same.
func sharedOf(name string) signer {
	secret := strings.Repeat(name+" secret of the test vectors ", 2)[:32]
	return signer{secret: secret, id: encode(macOf(secret, "caddy-system-keys assertion secret")[:16])}
}

// makeSharedVectors makes those of shared secrets, always the same.
func makeSharedVectors() *vectors {
	one, other, stranger, public := sharedOf("one"), sharedOf("other"), sharedOf("stranger"), signerOf("one")
	claims := vectorClaims()
	v := newVectors(one, other, stranger)
	v.Secrets = []string{one.secret, other.secret}
	parts := strings.Split(one.sign(one.header(), claims), ".")
	v.refuse("of a public key, under its own id", public.sign(public.header(), claims))
	v.refuse("of a public key, under the id of a secret", public.sign(with(public.header(), object{"kid": one.id}), claims))
	v.refuse("of a public key, and the header of a secret", public.sign(one.header(), claims))
	v.refuse("with the id of a public key, and its key as the secret", hs256(public, claims))
	v.refuse("with the public key as the secret, under the id of a secret",
		signer{secret: public.x()}.sign(one.header(), claims))
	v.refuse("with an empty secret", parts[0]+"."+parts[1]+"."+encode(macOf("", parts[0]+"."+parts[1])))
	v.refuse("with the id as the secret", signer{secret: one.id}.sign(one.header(), claims))
	v.refuse("with a secret of its own", stranger.sign(with(stranger.header(), object{"jwk": object{"kty": "oct", "k": encode([]byte(stranger.secret))}}), claims))
	v.refuse("with half of the signature", parts[0]+"."+parts[1]+"."+encode(macOf(one.secret, parts[0]+"."+parts[1])[:16]))
	v.refuse("with more than the signature", parts[0]+"."+parts[1]+"."+encode(append(macOf(one.secret, parts[0]+"."+parts[1]), 0)))
	for _, algorithm := range []string{"HS384", "HS512", "RS256", "EdDSA"} {
		v.refuse("algorithm "+algorithm+", signed by HS256", one.sign(with(one.header(), object{"alg": algorithm}), claims))
	}
	return v
}

// TestASecretIsTrimmed as the proxy trims it, so that both may read the same file.
func TestASecretIsTrimmed(t *testing.T) {
	t.Parallel()
	one, v := sharedOf("one"), makeSharedVectors()
	r := requestOf(vector{Method: "GET", Path: "/bots/17", Assertion: one.sign(one.header(), vectorClaims())})
	v.Secrets = []string{" " + one.secret + "\r\n"}
	if _, err := verifierOf(v).Verify(r); err != nil {
		t.Error(err)
	}
}

// TestSecretsThatAreRefused, and not repeated in the panic.
func TestSecretsThatAreRefused(t *testing.T) {
	t.Parallel()
	const short = "swordfish-of-thirty-one-letters"
	for name, make := range map[string]func(){
		"none":                     func() { upstream.NewShared[string]("a") },
		"an empty one":             func() { upstream.NewShared("a", "") },
		"a short one":              func() { upstream.NewShared("a", short) },
		"a short one, with blanks": func() { upstream.NewShared("a", []byte(short+" \n")) },
		"a short one behind a good one": func() {
			upstream.NewShared("a", strings.Repeat("x", 32), short)
		},
		"no audience": func() { upstream.NewShared("", strings.Repeat("x", 32)) },
		"a client for public keys": func() {
			upstream.NewShared("a", strings.Repeat("x", 32)).With(upstream.WithHTTPClient(serving(nil)))
		},
	} {
		func() {
			defer func() {
				if why := recover(); why == nil || strings.Contains(fmt.Sprint(why), "swordfish") {
					t.Errorf("%s: %v", name, why)
				}
			}()
			make()
		}()
	}
}

// TestAVerifierPrintsNoSecret, before its first use and after it.
func TestAVerifierPrintsNoSecret(t *testing.T) {
	t.Parallel()
	one := sharedOf("one")
	verifier := verifierOf(makeSharedVectors())
	if _, err := verifier.Verify(requestOf(makeSharedVectors().Cases[0])); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%x"} {
		for _, spelled := range []string{one.secret, fmt.Sprintf("%d", []byte(one.secret)), fmt.Sprintf("%x", one.secret)} {
			if text := fmt.Sprintf(format, verifier); strings.Contains(text, strings.Trim(spelled, "[]")) {
				t.Errorf("%s: %s", format, text)
			}
		}
	}
}

// TestASharedSecretCostsFewAllocations holds what is gained by it: neither the header nor
// the claims of the proxy go through package json.
func TestASharedSecretCostsFewAllocations(t *testing.T) {
	one := sharedOf("one")
	r := requestOf(vector{Method: "GET", Path: "/bots/17", Assertion: one.signText(
		encodeJSON(one.header()), encode([]byte(written+`,"htm":"GET","htu":"`+vectorBase+`/bots/17"}`)),
	)})
	verifier := verifierOf(makeSharedVectors())
	least := 100.0
	for range 20 { // under the race detector a pool drops some of what it gets
		least = min(least, testing.AllocsPerRun(1, func() {
			if _, err := verifier.Verify(r); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least > 12 {
		t.Errorf("%v allocations", least)
	}
}
