package phc_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
)

// small keeps a hash under a millisecond.
var small = phc.Params{Memory: 8, Iterations: 1, Parallelism: 1}

const (
	salt = "c2l4dGVlbi1ieXRlcy1hYg"
	hash = "X9lKqYr9yexrg5+i2vhH7lVXyl7GpRwi7WLmihn7VKE"
	good = "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + hash
)

func b64(n int) string { return base64.RawStdEncoding.EncodeToString(make([]byte, n)) }

func TestAHashVerifiesItsKeyAndNoOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key, other := rapid.String().Draw(t, "key"), rapid.String().Draw(t, "other")
		params := phc.Params{
			Memory:      rapid.Uint32Range(24, 128).Draw(t, "memory"),
			Iterations:  rapid.Uint32Range(1, 3).Draw(t, "iterations"),
			Parallelism: rapid.Uint8Range(1, 3).Draw(t, "parallelism"),
		}
		encoded, err := phc.Hash(key, params)
		if err != nil {
			t.Fatal(err)
		}
		hashed, err := phc.Parse(encoded)
		if err != nil {
			t.Fatalf("%q: %v", encoded, err)
		}
		if hashed.Params() != params {
			t.Fatalf("Params gave %+v, want %+v", hashed.Params(), params)
		}
		if !hashed.Verify(key) {
			t.Fatalf("%q does not verify", key)
		}
		if other != key && hashed.Verify(other) {
			t.Fatalf("%q verifies as %q", other, key)
		}
	})
}

func TestAHashThatDiffersInOneBitDoesNotVerify(t *testing.T) {
	t.Parallel()
	v := loadVectors(t)[0]
	fields := strings.Split(v.encoded, "$")
	for _, field := range []int{4, 5} {
		raw, err := base64.RawStdEncoding.DecodeString(fields[field])
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			changed := slices.Clone(raw)
			changed[i] ^= 1 << (i % 8)
			parts := slices.Clone(fields)
			parts[field] = base64.RawStdEncoding.EncodeToString(changed)
			hashed, err := phc.Parse(strings.Join(parts, "$"))
			if err != nil {
				t.Fatal(err)
			}
			if hashed.Verify(v.password) {
				t.Errorf("it verifies with byte %d of field %d changed", i, field)
			}
		}
	}
}

func TestEveryHashHasASaltOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		encoded, err := phc.Hash("one key", small)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Split(encoded, "$")
		salt, _ := base64.RawStdEncoding.DecodeString(fields[4])
		hash, _ := base64.RawStdEncoding.DecodeString(fields[5])
		if len(salt) != 16 || len(hash) != 32 {
			t.Fatalf("salt of %d and hash of %d bytes, want 16 and 32", len(salt), len(hash))
		}
		if seen[fields[4]] || seen[fields[5]] {
			t.Fatal("a salt or hash came twice")
		}
		seen[fields[4]], seen[fields[5]] = true, true
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	with := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + hash }
	for name, c := range map[string]struct {
		input string
		want  error
	}{
		"nothing":                           {"", phc.ErrMalformed},
		"dollars alone":                     {"$$$$$", phc.ErrMalformed},
		"a string too long to look at":      {good + strings.Repeat("A", 1<<20), phc.ErrMalformed},
		"argon2i":                           {strings.Replace(good, "argon2id", "argon2i", 1), phc.ErrMalformed},
		"argon2d":                           {strings.Replace(good, "argon2id", "argon2d", 1), phc.ErrMalformed},
		"another case":                      {strings.Replace(good, "argon2id", "Argon2id", 1), phc.ErrMalformed},
		"bcrypt":                            {"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", phc.ErrMalformed},
		"version 16":                        {strings.Replace(good, "v=19", "v=16", 1), phc.ErrMalformed},
		"no version, which means 16":        {strings.Replace(good, "v=19$", "", 1), phc.ErrMalformed},
		"the version in hex":                {strings.Replace(good, "v=19", "v=0x13", 1), phc.ErrMalformed},
		"no dollar in front":                {good[1:], phc.ErrMalformed},
		"something in front":                {"x" + good, phc.ErrMalformed},
		"a dollar behind":                   {good + "$", phc.ErrMalformed},
		"a line feed behind":                {good + "\n", phc.ErrMalformed},
		"a space behind":                    {good + " ", phc.ErrMalformed},
		"no hash":                           {"$argon2id$v=19$m=8,t=1,p=1$" + salt, phc.ErrMalformed},
		"parameters in another order":       {with("t=1,m=8,p=1"), phc.ErrMalformed},
		"a parameter twice":                 {with("m=8,t=1,p=1,p=1"), phc.ErrMalformed},
		"a parameter missing":               {with("m=8,t=1"), phc.ErrMalformed},
		"no parameters":                     {with(""), phc.ErrMalformed},
		"a keyid":                           {with("m=8,t=1,p=1,keyid=Zm9v"), phc.ErrMalformed},
		"associated data":                   {with("m=8,t=1,p=1,data=Zm9v"), phc.ErrMalformed},
		"a space between parameters":        {with("m=8, t=1,p=1"), phc.ErrMalformed},
		"a plus sign":                       {with("m=+8,t=1,p=1"), phc.ErrMalformed},
		"a minus sign":                      {with("m=-8,t=1,p=1"), phc.ErrMalformed},
		"a leading zero":                    {with("m=08,t=1,p=1"), phc.ErrMalformed},
		"many leading zeros":                {with("m=000000000000000000000000000000000008,t=1,p=1"), phc.ErrMalformed},
		"leading zeros before too many":     {with("m=8,t=0099999999999,p=1"), phc.ErrMalformed},
		"two zeros":                         {with("m=8,t=00,p=1"), phc.ErrMalformed},
		"hex":                               {with("m=0x8,t=1,p=1"), phc.ErrMalformed},
		"an underscore":                     {with("m=1_0,t=1,p=1"), phc.ErrMalformed},
		"digits that are not ASCII":         {with("m=\u0668,t=1,p=1"), phc.ErrMalformed},
		"an empty number":                   {with("m=,t=1,p=1"), phc.ErrMalformed},
		"a fraction":                        {with("m=8.0,t=1,p=1"), phc.ErrMalformed},
		"memory that is 100 GiB":            {with("m=104857600,t=1,p=1"), phc.ErrOutOfBounds},
		"memory a KiB over":                 {with("m=262145,t=1,p=1"), phc.ErrOutOfBounds},
		"memory that wraps around to 64":    {with("m=4294967360,t=1,p=1"), phc.ErrOutOfBounds},
		"memory beyond any integer":         {with("m=99999999999999999999999999,t=1,p=1"), phc.ErrOutOfBounds},
		"memory that is zero":               {with("m=0,t=1,p=1"), phc.ErrOutOfBounds},
		"memory too little for the lanes":   {with("m=63,t=1,p=8"), phc.ErrOutOfBounds},
		"iterations one over":               {with("m=8,t=11,p=1"), phc.ErrOutOfBounds},
		"no iterations":                     {with("m=8,t=0,p=1"), phc.ErrOutOfBounds},
		"iterations that wrap around to 1":  {with("m=8,t=4294967297,p=1"), phc.ErrOutOfBounds},
		"lanes one over":                    {with("m=1024,t=1,p=9"), phc.ErrOutOfBounds},
		"no lanes":                          {with("m=8,t=1,p=0"), phc.ErrOutOfBounds},
		"lanes that wrap around to 1":       {with("m=8,t=1,p=257"), phc.ErrOutOfBounds},
		"salt of 7 bytes":                   {"$argon2id$v=19$m=8,t=1,p=1$" + b64(7) + "$" + hash, phc.ErrOutOfBounds},
		"salt of 65 bytes":                  {"$argon2id$v=19$m=8,t=1,p=1$" + b64(65) + "$" + hash, phc.ErrOutOfBounds},
		"no salt":                           {"$argon2id$v=19$m=8,t=1,p=1$$" + hash, phc.ErrOutOfBounds},
		"hash of 15 bytes":                  {"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + b64(15), phc.ErrOutOfBounds},
		"hash of 65 bytes":                  {"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + b64(65), phc.ErrOutOfBounds},
		"an empty hash":                     {"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$", phc.ErrOutOfBounds},
		"padding":                           {good + "=", phc.ErrMalformed},
		"base64url":                         {strings.Replace(good, "+", "-", 1), phc.ErrMalformed},
		"a line feed inside the salt":       {strings.Replace(good, salt, salt[:4]+"\n"+salt[4:], 1), phc.ErrMalformed},
		"a carriage return inside the hash": {strings.Replace(good, hash, hash[:4]+"\r"+hash[4:], 1), phc.ErrMalformed},
		"bits left over in the salt":        {strings.Replace(good, salt, salt[:21]+"h", 1), phc.ErrMalformed},
		"bits left over in the hash":        {good[:len(good)-1] + "F", phc.ErrMalformed},
		"one character too many":            {"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + hash + "AA", phc.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hashed, err := phc.Parse(c.input)
			if !errors.Is(err, c.want) || hashed != nil {
				t.Errorf("Parse gave %v, want %v", err, c.want)
			}
			for _, part := range []string{salt, hash, "Zm9v", "104857600", "4294967"} {
				if err != nil && strings.Contains(err.Error(), part) {
					t.Errorf("%q repeats the input", err)
				}
			}
		})
	}
}

func TestParseTakesTheBoundsThemselves(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		good,
		"$argon2id$v=19$m=262144,t=10,p=8$" + b64(64) + "$" + b64(64),
		"$argon2id$v=19$m=8,t=1,p=1$" + b64(8) + "$" + b64(16),
	} {
		if _, err := phc.Parse(s); err != nil {
			t.Errorf("Parse(%q) gave %v", s, err)
		}
	}
}

func TestAHashDoesNotPrint(t *testing.T) {
	t.Parallel()
	hashed, err := phc.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("test", "hash", hashed)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("test", "hash", hashed)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb+"\n", hashed)
	}
	// The first bytes of the salt and of the hash, in base64, hex and decimal.
	for _, part := range []string{salt[:8], hash[:8], "73697874", "5fd94aa9", "115 105 120", "95 217 74"} {
		if strings.Contains(log.String(), part) {
			t.Errorf("%q was printed in:\n%s", part, log.String())
		}
	}
	if strings.Count(log.String(), "[redacted]") < 7 {
		t.Errorf("not every verb redacts:\n%s", log.String())
	}
}
