package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// vectors is testdata/vectors.json, which is made without any Go.
type vectors struct {
	Valid []struct {
		Comment string
		MintKey string `json:"mint_key"`
		ID      string
		Secret  string
		Key     string
	}
	Invalid []struct {
		Comment string
		MintKey string `json:"mint_key"`
		Key     string
		Reason  string
	}
}

func loadVectors(tb testing.TB) vectors {
	tb.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatal(err)
	}
	if len(v.Valid) < 5 || len(v.Invalid) < 20 {
		tb.Fatalf("only %d valid and %d invalid vectors were read", len(v.Valid), len(v.Invalid))
	}
	return v
}

// bytes32 and bytes16 read the hex digits in s, hyphens left out.
func bytes32(tb testing.TB, s string) (b [32]byte) {
	tb.Helper()
	decodeHex(tb, b[:], s)
	return b
}

func bytes16(tb testing.TB, s string) (b [16]byte) {
	tb.Helper()
	decodeHex(tb, b[:], strings.ReplaceAll(s, "-", ""))
	return b
}

func decodeHex(tb testing.TB, dst []byte, s string) {
	tb.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(dst) {
		tb.Fatalf("%q is not %d bytes in hex", s, len(dst))
	}
	copy(dst, raw)
}

// bigBase62 and parseBase62 write and read base62 by math/big, whose digits are
// 0-9a-zA-Z.
func bigBase62(number *big.Int, width int) string {
	text := swapCase(number.Text(62))
	return strings.Repeat("0", max(0, width-len(text))) + text
}

func parseBase62(s string) (*big.Int, bool) { return new(big.Int).SetString(swapCase(s), 62) }

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' {
			r ^= 'a' ^ 'A'
		}
		return r
	}, s)
}

// bigTag is the number of the tag over the 65 characters of id and secret.
func bigTag(mintKey [32]byte, signed string) *big.Int {
	mac := hmac.New(sha256.New, mintKey[:])
	mac.Write([]byte(signed))
	return new(big.Int).SetBytes(mac.Sum(nil)[:8])
}

// sign makes the key with this id and secret, written as they are given.
func sign(mintKey [32]byte, signed string) string {
	return token.Prefix + signed + bigBase62(bigTag(mintKey, signed), 11)
}

// bigMint is Mint by way of math/big and crypto/hmac.
func bigMint(mintKey [32]byte, id [16]byte, secret [32]byte) string {
	return sign(mintKey, bigBase62(new(big.Int).SetBytes(id[:]), 22)+bigBase62(new(big.Int).SetBytes(secret[:]), 43))
}

func TestVectors(t *testing.T) {
	t.Parallel()
	v := loadVectors(t)
	for _, c := range v.Valid {
		t.Run(c.Comment, func(t *testing.T) {
			t.Parallel()
			mintKey, id, secret := bytes32(t, c.MintKey), bytes16(t, c.ID), bytes32(t, c.Secret)
			minter := token.New(mintKey)
			if got := minter.Mint(id, secret); got != c.Key {
				t.Errorf("Mint gave %q, want %q", got, c.Key)
			}
			if got := bigMint(mintKey, id, secret); got != c.Key {
				t.Errorf("math/big gave %q, want %q", got, c.Key)
			}
			if got, err := minter.Parse(c.Key); err != nil || got != id {
				t.Errorf("Parse gave %x, %v, want %x", got, err, id)
			}
		})
	}
	for _, c := range v.Invalid {
		t.Run(c.Comment, func(t *testing.T) {
			t.Parallel()
			want := map[string]error{"malformed": token.ErrMalformed, "unminted": token.ErrUnminted}[c.Reason]
			if want == nil {
				t.Fatalf("unknown reason %q", c.Reason)
			}
			id, err := token.New(bytes32(t, c.MintKey)).Parse(c.Key)
			if !errors.Is(err, want) || id != [16]byte{} {
				t.Errorf("Parse(%q) gave %x, %v, want %v", c.Key, id, err, want)
			}
		})
	}
}
