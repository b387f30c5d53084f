package upstream_test

import (
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// written are claims in the order, and about of the length, in which the proxy writes
// them.
const written = `{"iss":"caddy-system-keys","aud":"lumio-api","sub":"` + vectorID + `","label":"Twitch Bot",` +
	`"permissions":["bots:read","bots:write"],"iat":1767225590,"exp":1767225650,"jti":"QJ4WZ5M6S7CH4M2DRA2IKV"`

// BenchmarkVerify is what a service pays for a request.
func BenchmarkVerify(b *testing.B) {
	const bound = written + `,"htm":"GET","htu":"` + vectorBase + `/bots/17"}`
	public, shared := makeVectors(), makeSharedVectors()
	one, secret := signerOf("one"), sharedOf("one")
	for name, test := range map[string]struct {
		verifier  *upstream.Verifier
		assertion string
	}{
		"Ed25519":          {verifierOf(public), one.signText(encodeJSON(one.header()), encode([]byte(bound)))},
		"Ed25519, unbound": {verifierOf(public, upstream.WithoutBinding()), one.signText(encodeJSON(one.header()), encode([]byte(written+"}")))},
		"shared":           {verifierOf(shared), secret.signText(encodeJSON(secret.header()), encode([]byte(bound)))},
		"shared, unbound":  {verifierOf(shared, upstream.WithoutBinding()), secret.signText(encodeJSON(secret.header()), encode([]byte(written+"}")))},
	} {
		b.Run(strings.ReplaceAll(name, " ", ""), func(b *testing.B) {
			r := requestOf(vector{Method: "GET", Path: "/bots/17", Assertion: test.assertion})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := test.verifier.Verify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
