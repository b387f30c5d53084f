package token_test

import (
	"crypto/sha256"
	"errors"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

var (
	mintKey = [32]byte{0: 1, 17: 0x9e, 31: 0xff}
	id      = [16]byte{0x01, 0x93, 0x5c, 0x1e, 0x7b, 0x3a, 0x7c, 0x52, 0x9b, 0x1e, 0x3f, 0x0a, 0x6d, 0x2c, 0x4e, 0x58}
	secret  = sha256.Sum256([]byte("a secret"))
)

func drawID(t *rapid.T) [16]byte {
	return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
}

func drawSecret(t *rapid.T, name string) [32]byte {
	return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
}

func TestEveryIDAndSecretMakesAKeyThatParses(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^lm_sys_[0-9A-Za-z]{76}$`)
	rapid.Check(t, func(t *rapid.T) {
		mintKey, id, secret := drawSecret(t, "mint key"), drawID(t), drawSecret(t, "secret")
		minter := token.New(mintKey)
		key := minter.Mint(id, secret)
		if !form.MatchString(key) {
			t.Fatalf("Mint gave %q", key)
		}
		if want := bigMint(mintKey, id, secret); key != want {
			t.Fatalf("Mint gave %q, math/big %q", key, want)
		}
		got, err := minter.Parse(key)
		if err != nil || got != id {
			t.Fatalf("Parse gave %x, %v, want %x", got, err, id)
		}
	})
}

func TestAnotherMintKeyRefusesTheKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mine, other := drawSecret(t, "mint key"), drawSecret(t, "another mint key")
		if mine == other {
			other[0]++
		}
		key := token.New(mine).Mint(drawID(t), drawSecret(t, "secret"))
		if _, err := token.New(other).Parse(key); !errors.Is(err, token.ErrUnminted) {
			t.Fatalf("Parse gave %v, want ErrUnminted", err)
		}
	})
}

func TestOneChangedByteIsRefused(t *testing.T) {
	t.Parallel()
	minter := token.New(mintKey)
	key := minter.Mint(id, secret)
	for i := range len(key) {
		for b := range 256 {
			if byte(b) == key[i] {
				continue
			}
			changed := key[:i] + string([]byte{byte(b)}) + key[i+1:]
			if _, err := minter.Parse(changed); err == nil {
				t.Fatalf("byte %d as %#02x is still a key", i, b)
			}
		}
	}
}

func TestNothingButTheKeyItselfParses(t *testing.T) {
	t.Parallel()
	minter := token.New(mintKey)
	key := minter.Mint(id, secret)
	refuse := func(t *testing.T, s string) {
		t.Helper()
		if got, err := minter.Parse(s); err == nil || got != [16]byte{} {
			t.Errorf("Parse(%q) gave %x, %v", s, got, err)
		}
	}
	for n := range len(key) {
		refuse(t, key[:n])
		refuse(t, key[n+1:])
		refuse(t, key[:n]+key[n+1:])
		refuse(t, key[:n]+"0"+key[n:])
	}
	for _, s := range []string{
		key + key, key + "\x00", key + " ", " " + key, "Bearer " + key,
		strings.ToLower(key), strings.ToUpper(key), strings.Repeat("0", token.Length), strings.Repeat("z", 1<<20),
		token.Prefix + strings.Repeat("0", 76), token.Prefix + strings.Repeat("z", 76), strings.Repeat("\xff", token.Length),
	} {
		refuse(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`lm_sys_[0-9A-Za-z]{76}`),
			rapid.StringMatching(`[ -~]{83}`),
		).Draw(t, "input")
		if _, err := minter.Parse(s); err == nil {
			t.Fatalf("%q parses", s)
		}
	})
}

// A number too great for its part would be a second spelling of a smaller one
// to a decoder that wraps around. These carry the tag that belongs to them.
func TestAPartThatOverflowsIsMalformed(t *testing.T) {
	t.Parallel()
	minter := token.New(mintKey)
	good := minter.Mint(id, secret)
	idPart, secretPart := good[7:29], good[29:72]
	power := func(bits uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), bits) }
	tag := bigTag(mintKey, idPart+secretPart)
	for name, key := range map[string]string{
		"the least id that is too great":     sign(mintKey, bigBase62(power(128), 22)+secretPart),
		"the same id plus 2^128":             sign(mintKey, bigBase62(new(big.Int).Add(power(128), new(big.Int).SetBytes(id[:])), 22)+secretPart),
		"the greatest id":                    sign(mintKey, strings.Repeat("z", 22)+secretPart),
		"the least secret that is too great": sign(mintKey, idPart+bigBase62(power(256), 43)),
		"the greatest secret":                sign(mintKey, idPart+strings.Repeat("z", 43)),
		"the least tag that is too great":    good[:72] + bigBase62(power(64), 11),
		"the right tag plus 2^64":            good[:72] + bigBase62(new(big.Int).Add(power(64), tag), 11),
		"the greatest tag":                   good[:72] + strings.Repeat("z", 11),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if len(key) != token.Length {
				t.Fatalf("the case is %d characters long", len(key))
			}
			if _, err := minter.Parse(key); !errors.Is(err, token.ErrMalformed) {
				t.Errorf("Parse gave %v, want ErrMalformed", err)
			}
		})
	}
}

func TestErrorsDoNotRepeatTheInput(t *testing.T) {
	t.Parallel()
	minter := token.New(mintKey)
	key := minter.Mint(id, secret)
	for _, s := range []string{key[:82] + "!", key[:81] + "00", key + "x"} {
		_, err := minter.Parse(s)
		if err == nil {
			t.Fatalf("%q parses", s)
		}
		for n := range len(s) - 8 {
			if strings.Contains(err.Error(), s[n:n+8]) {
				t.Errorf("%q repeats %q", err, s[n:n+8])
			}
		}
	}
}

func TestDigestIsSHA256OfTheDomainAndTheKey(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, token.Length - 1, token.Length, token.Length + 1, 4096} {
		s := strings.Repeat("k", n)
		if got, want := token.Digest(s), sha256.Sum256([]byte("system-keys.v1\x00"+s)); got != want {
			t.Errorf("Digest of %d bytes gave %x, want %x", n, got, want)
		}
	}
}

// The paths of every proxied request. Not parallel: allocations are counted for
// the whole process.
func TestParseAndDigestDoNotAllocate(t *testing.T) {
	minter := token.New(mintKey)
	key := minter.Mint(id, secret)
	unminted := token.New(secret).Mint(id, secret)
	for name, f := range map[string]func(){
		"a minted key":       func() { _, _ = minter.Parse(key) },
		"an unminted key":    func() { _, _ = minter.Parse(unminted) },
		"a malformed string": func() { _, _ = minter.Parse("lm_sys_") },
		"a long string":      func() { _, _ = minter.Parse(longInput) },
		"a digest":           func() { digestSink = token.Digest(key) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestAMinterServesManyAtOnce(t *testing.T) {
	t.Parallel()
	minter := token.New(mintKey)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 200 {
				mine := [16]byte{byte(n), byte(i)}
				if got, err := minter.Parse(minter.Mint(mine, secret)); err != nil || got != mine {
					t.Errorf("Parse gave %x, %v, want %x", got, err, mine)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParse(f *testing.F) {
	minter := token.New(mintKey)
	f.Add(minter.Mint(id, secret))
	v := loadVectors(f)
	for _, c := range v.Valid {
		f.Add(c.Key)
	}
	for _, c := range v.Invalid {
		f.Add(c.Key)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := minter.Parse(s)
		if err != nil {
			if got != [16]byte{} || !errors.Is(err, token.ErrMalformed) && !errors.Is(err, token.ErrUnminted) {
				t.Errorf("Parse(%q) gave %x, %v", s, got, err)
			}
			return
		}
		n, ok := parseBase62(s[29:72])
		if !ok || n.BitLen() > 256 {
			t.Fatalf("%q parses, but its secret is not 256 bits in base62", s)
		}
		var again [32]byte
		n.FillBytes(again[:])
		if minted := minter.Mint(got, again); minted != s {
			t.Errorf("%q parses, but its parts make %q", s, minted)
		}
	})
}

var (
	longInput  = strings.Repeat("lm_sys_", 1<<16)
	digestSink [32]byte
)

func BenchmarkParse(b *testing.B) {
	minter := token.New(mintKey)
	key := minter.Mint(id, secret)
	for _, c := range []struct{ name, input string }{
		{"minted", key},
		{"unminted", token.New(secret).Mint(id, secret)},
		{"bad first character", key[:7] + "-" + key[8:]},
		{"empty", ""},
		{"long", longInput},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = minter.Parse(c.input)
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	key := token.New(mintKey).Mint(id, secret)
	b.ReportAllocs()
	for b.Loop() {
		digestSink = token.Digest(key)
	}
}

func BenchmarkMint(b *testing.B) {
	minter := token.New(mintKey)
	b.ReportAllocs()
	for b.Loop() {
		minter.Mint(id, secret)
	}
}
