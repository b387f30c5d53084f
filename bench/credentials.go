package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// credentials are one that is good, and those that are not, by how much is good
// about them.
type credentials struct {
	good    string
	revoked []string // each was minted and stored, and is gone
}

// revokedKeys is how many there are: each is remembered for a moment, so that one
// alone would ask the store for nothing.
const revokedKeys = 64

// newCredentials makes a store with them, and the file with the key of people whose
// tokens it does not have.
func newCredentials(ctx context.Context, file, people string) (*credentials, error) {
	s, err := sqlite.Open(ctx, file, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // what it has written is committed
	if err := s.Migrate(ctx); err != nil {
		return nil, err
	}
	mintKey, err := s.MintKey(ctx)
	if err != nil {
		return nil, err
	}
	c := new(credentials)
	service := &admin.Service{
		Store: s, Minter: token.New(mintKey), Now: time.Now,
		Hash:    verify.NewSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 64<<10).Hash,
		Revoker: coherence.NewRevoker(s, time.Now, slog.New(slog.DiscardHandler)),
	}
	for range revokedKeys {
		key, plain, err := service.Create(ctx, admin.CLI(), admin.NewKey{Label: "gone"})
		if err != nil {
			return nil, err
		}
		if _, err := service.Revoke(ctx, admin.CLI(), key.ID); err != nil {
			return nil, err
		}
		c.revoked = append(c.revoked, plain)
	}
	good, err := mint(ctx, s, 1, phc.Default(), admin.NewKey{Label: "bench", Permissions: []string{"bots:read"}})
	if err != nil {
		return nil, err
	}
	c.good = good[0].plain
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return c, os.WriteFile(people, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

// digits are those of a key.
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// unminted is a key in form only.
func unminted() string { return token.Prefix + text(digits, token.Length-len(token.Prefix)) }

// garbage is a bearer token of no form, of the same length.
func garbage() string { return text("!#$%&'*+-.^_`|~"+digits, token.Length) }

// wrongToken is one of a person whose signature does not fit.
func wrongToken() string {
	segment := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return "lm_" + segment(`{"alg":"EdDSA","typ":"JWT"}`) + "." +
		segment(fmt.Sprintf(`{"iss":"https://issuer.example","aud":"admin","sub":%q,"is_system":true,"exp":99999999999}`, text(digits, 8))) + "." +
		base64.RawURLEncoding.EncodeToString(random(ed25519.SignatureSize))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func text(alphabet string, n int) string {
	b := random(n)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}
