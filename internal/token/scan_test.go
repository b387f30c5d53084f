package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

var (
	scanned   = token.New([32]byte{1})
	keyA      = scanned.Mint([16]byte{0xa}, [32]byte{3})
	keyB      = scanned.Mint([16]byte{0xb}, [32]byte{4, 5})
	elsewhere = token.New([32]byte{2}).Mint([16]byte{0xa}, [32]byte{3})
)

// finds are what a scan has found: the line, and the first byte of the id.
func finds(t testing.TB, stream io.Reader, buffer int) []string {
	t.Helper()
	var all []string
	if err := scanned.ScanIn(stream, make([]byte, buffer), func(line int, id [16]byte) {
		all = append(all, fmt.Sprintf("%d:%x", line, id[0]))
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// escape percent-encodes every character.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

// wide is a text in UTF-16, little endian.
func wide(s string) string { return strings.Join(strings.Split(s, ""), "\x00") + "\x00" }

func inBase64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// endsInO returns a key whose end, and the bits behind it, may be written with the last
// digit of base64, in which its alphabets differ.
func endsInO() string {
	for n := byte(0); ; n++ {
		if key := scanned.Mint([16]byte{0xc}, [32]byte{n}); key[len(key)-1] == 'o' {
			return key
		}
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*token.MostEncoded)
	for text, want := range map[string]string{
		"":                                  "",
		"lm_sys_":                           "",
		keyA:                                "1:a",
		keyA[1:]:                            "",
		keyA[:len(keyA)-1]:                  "",
		"\n\n" + keyB + "\n":                "3:b",
		"a\r\nb\r\n" + keyB:                 "3:b",
		"xlm_sys_" + keyA + "yz":            "1:a",
		keyA + keyB:                         "1:a 1:b",
		keyA + "\n" + keyB + "\n" + keyA:    "1:a 2:b 3:a",
		"lm_sys_" + keyA:                    "1:a",
		keyA[:40] + keyB:                    "1:b",
		"\x00\xff" + keyA + "\xfe\x00":      "1:a",
		`{"key":"` + keyA + `"}`:            "1:a",
		long + "\n" + long + keyA + long:    "2:a",
		elsewhere:                           "", // another installation
		keyA[:30] + "0" + keyA[31:]:         "",
		strings.ToUpper(keyA):               "",
		"LM_SYS_" + keyA[7:]:                "",
		keyA[:20] + "\n" + keyA[20:]:        "",
		"?k=" + url.QueryEscape(keyA) + "&": "1:a",
		"lm%5fsys%5F" + keyA[7:]:            "1:a",
		"%6c%6D_sys_" + keyA[7:]:            "1:a",
		"%4cm_sys_" + keyA[7:]:              "", // L
		keyA[:7] + escape(keyA[7:]) + "%":   "1:a",
		"%20" + escape(keyA) + "%20":        "1:a",
		"%" + escape(escape(keyB)):          "1:b",
		escape(escape(escape(keyB))):        "",
		"lm%255Fsys%255F" + keyA[7:]:        "1:a",
		"\n" + escape(escape(keyA)) + "\n" + keyB + "%0a":                  "2:a 3:b",
		"\xff\xfe" + wide(keyA+"\r\n"+keyB):                                "1:a 2:b",
		"\x00" + wide(keyA):                                                "1:a",
		wide(keyA)[:2*token.Length-1]:                                      "1:a", // another byte order
		wide(keyA)[:2*token.Length-2]:                                      "",
		wide(keyA[:40]) + keyA[40:]:                                        "",
		inBase64(keyA):                                                     "1:a",
		inBase64("u:" + keyA):                                              "1:a",
		inBase64("us:" + keyA + "\n"):                                      "1:a",
		inBase64("use:" + keyA + keyB):                                     "1:a 1:b",
		inBase64("\xff\xfe\xfd" + keyA + "\xff\xff\xff"):                   "1:a",
		inBase64(keyA)[:110]:                                               "",
		inBase64("u:" + keyA)[:40] + "\r\n  " + inBase64("u:" + keyA)[40:]: "1:a",
		inBase64("u:" + keyA)[:40] + "." + inBase64("u:" + keyA)[40:]:      "",
		inBase64("u:" + keyA)[:40] + strings.Repeat("\n", token.MostEncoded) + inBase64("u:" + keyA)[40:]: "",
		wide(keyA)[:101] + "x" + wide(keyA)[102:]:                                                         "",
		inBase64(endsInO() + "\xff"):                                                                      "1:c",
		inBase64(elsewhere):                                                                               "",
		inBase64(inBase64(keyA)):                                                                          "",
	} {
		for _, buffer := range []int{token.MostEncoded + 1, token.MostEncoded + 83, 1 << 16} {
			if got := strings.Join(finds(t, strings.NewReader(text), buffer), " "); got != want {
				t.Errorf("%.100q in %d: %q, want %q", text, buffer, got, want)
			}
		}
	}
}

func TestAScanThatFailsHasSearchedWhatCameBefore(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var lines []int
	err := scanned.Scan(io.MultiReader(strings.NewReader("\n"+keyA), iotest.ErrReader(broken)), func(line int, _ [16]byte) { lines = append(lines, line) })
	if !errors.Is(err, broken) || !slices.Equal(lines, []int{2}) {
		t.Errorf("%v, keys in lines %v", err, lines)
	}
}

var escaped = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// naive looks at every byte by itself, decodes what follows in each way, and parses it.
func naive(text []byte) (all []string) {
	for i := range text {
		rest := text[i:min(len(text), i+token.MostEncoded)]
		for _, decoded := range [][]byte{unescape(unescape(rest)), everySecond(rest), fromBase64(rest, 0), fromBase64(rest, 1), fromBase64(rest, 2)} {
			if len(decoded) < token.Length {
				continue
			}
			if id, err := scanned.Parse(string(decoded[:token.Length])); err == nil {
				all = append(all, fmt.Sprintf("%d:%x", 1+bytes.Count(text[:i], []byte{'\n'}), id[0]))
			}
		}
	}
	return all
}

func unescape(b []byte) []byte {
	if len(b) == 0 || b[0] != 'l' && b[0] != '%' {
		return nil // to save time
	}
	return escaped.ReplaceAllFunc(b, func(b []byte) []byte {
		decoded, _ := hex.DecodeString(string(b[1:]))
		return decoded
	})
}

func everySecond(b []byte) (all []byte) {
	for i, c := range b {
		if i%2 == 0 {
			all = append(all, c)
		} else if c != 0 {
			break
		}
	}
	return all
}

// fromBase64 decodes what follows so many bytes of a group.
func fromBase64(b []byte, before int) []byte {
	digits := strings.Repeat("A", before)
	for _, c := range b {
		switch {
		case strings.ContainsRune(" \t\r\n", rune(c)) && len(digits) > before:
			continue
		case c == '-':
			c = '+'
		case c == '_':
			c = '/'
		}
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", rune(c)) || len(digits) == 116 {
			break
		}
		digits += string(rune(c))
	}
	if len(digits)*6/8 < before+token.Length {
		return nil
	}
	digits += "AAAA"
	decoded, _ := base64.StdEncoding.DecodeString(digits[:len(digits)&^3])
	return decoded[before:]
}

// FuzzScan compares the scan, however the stream and the buffer are split, with one that
// looks at every byte by itself.
func FuzzScan(f *testing.F) {
	for _, text := range []string{
		"", keyA, "a" + keyA + keyB, "\n" + escape(keyA) + "%", escape(escape(keyB)), "lm_sys_lm_sys_" + keyA, elsewhere + "\n" + keyA + "\n" + keyB,
		"%256c" + keyA[1:], "%%36c" + keyA[1:], "lm%5Fsys_" + keyB[7:], keyA[:80] + keyA, "%25%36%43" + keyB[1:],
		keyA[:7] + escape(keyA[7:50]) + keyA[50:], strings.Repeat("%", 100) + keyA,
		wide(keyA + "\n" + keyB), "\x00" + wide(keyA), inBase64(keyA), inBase64("-" + keyA), inBase64("--" + keyA), "b\n" + inBase64("u:" + keyA)[:60] + "\n" + inBase64("u:" + keyA)[60:],
	} {
		f.Add([]byte(text), uint16(0), uint16(0))
		f.Add([]byte(text), uint16(token.MostEncoded-10), uint16(3))
		f.Add([]byte(text+"\n"+text), uint16(1000), uint16(700))
	}
	f.Fuzz(func(t *testing.T, text []byte, before, buffer uint16) {
		text = append(bytes.Repeat([]byte("lm_sys_%25\n"), int(before%2000)/11), text...)
		if len(text) > 1<<13 {
			return
		}
		want := naive(text)
		size := token.MostEncoded + 1 + int(buffer%1000)
		for name, stream := range map[string]io.Reader{
			"at once": bytes.NewReader(text), "by bytes": iotest.OneByteReader(bytes.NewReader(text)), "with its end": iotest.DataErrReader(bytes.NewReader(text)),
		} {
			if got := finds(t, stream, size); !slices.Equal(got, want) {
				t.Errorf("%s, %d bytes: %q, want %q", name, size, got, want)
			}
		}
	})
}

// TestEverySplitFindsTheSame moves keys across the end of the buffer, byte by byte.
func TestEverySplitFindsTheSame(t *testing.T) {
	t.Parallel()
	const buffer = 2 * token.MostEncoded
	for _, key := range []string{keyA, escape(keyA), escape(escape(keyA)), wide(keyA), inBase64(keyA)} {
		for shift := range buffer + len(key) {
			text := strings.Repeat("\n", shift) + key + strings.Repeat(" ", token.MostEncoded)
			if got := finds(t, strings.NewReader(text), buffer); !slices.Equal(got, []string{fmt.Sprintf("%d:a", shift+1)}) {
				t.Fatalf("%d bytes before a key of %d: %q", shift, len(key), got)
			}
		}
	}
}

// haystack is source of this module and look-alikes, with keys in it. It returns the lines
// of the keys.
func haystack(tb testing.TB, size, lookAlikes, keys int) (text []byte, lines []int) {
	tb.Helper()
	var source []byte
	files, err := filepath.Glob("../*/*.go")
	if err != nil || len(files) < 50 {
		tb.Fatal(len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		source = append(source, content...)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var lookAlikeAt, keyAt []int
	for range lookAlikes {
		lookAlikeAt = append(lookAlikeAt, random.IntN(size))
	}
	for range keys {
		keyAt = append(keyAt, random.IntN(size))
	}
	slices.Sort(lookAlikeAt)
	slices.Sort(keyAt)
	text = make([]byte, 0, size+(lookAlikes+keys)*100)
	line, counted := 1, 0
	for at := 0; at < size; {
		next := min(size, at+len(source))
		if len(lookAlikeAt) > 0 {
			next = min(next, lookAlikeAt[0])
		}
		if len(keyAt) > 0 {
			next = min(next, keyAt[0])
		}
		for at < next {
			from := at % len(source)
			n := min(next-at, len(source)-from)
			text = append(text, source[from:from+n]...)
			at += n
		}
		for len(lookAlikeAt) > 0 && lookAlikeAt[0] == at {
			lookAlikeAt = lookAlikeAt[1:]
			digits := []byte(elsewhere)
			for i := len(token.Prefix); i < len(digits); i++ {
				digits[i] = elsewhere[len(token.Prefix)+random.IntN(76)]
			}
			text = append(text, digits...)
		}
		for len(keyAt) > 0 && keyAt[0] == at {
			keyAt = keyAt[1:]
			line += bytes.Count(text[counted:], []byte{'\n'})
			counted = len(text)
			lines = append(lines, line)
			text = append(text, keyA...)
		}
	}
	return text, lines
}

// TestAllKeysInAHaystackAreFound and nothing else. With SOAK it is a gigabyte.
func TestAllKeysInAHaystackAreFound(t *testing.T) {
	t.Parallel()
	size := 10 << 20
	if os.Getenv("SOAK") != "" {
		size = 1 << 30
	}
	text, want := haystack(t, size, size/1000, 100)
	var got []int
	if err := scanned.Scan(bytes.NewReader(text), func(line int, id [16]byte) {
		if id != [16]byte{0xa} {
			t.Errorf("line %d: the id is %x", line, id)
		}
		got = append(got, line)
	}); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d keys are found, want %d: %v", len(got), len(want), err)
	}
}

func BenchmarkScan(b *testing.B) {
	for name, lookAlikes := range map[string]int{"source": 0, "look-alikes": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			text, _ := haystack(b, 64<<20, lookAlikes, 1)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if err := scanned.Scan(bytes.NewReader(text), func(int, [16]byte) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
