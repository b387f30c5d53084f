package token_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	key := token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})
	for text, want := range map[string]string{
		"":                                 "",
		"nothing":                          "nothing",
		key:                                "REDACTED",
		`unknown field "` + key + `"`:      `unknown field "REDACTED"`,
		"/a/" + key + "/b":                 "/a/REDACTED",
		"at lm_sys_a-B.c_d~e+f/g==, 2":     "at REDACTED, 2",
		"lm%5fsys_%2b-x?a=b":               "REDACTED?a=b",
		key + "," + key:                    "REDACTED,REDACTED",
		key + key:                          "REDACTED",
		"a" + key + ` "` + key + `" b`:     `aREDACTED "REDACTED" b`,
		strings.ToUpper(key):               "REDACTED",
		"/lm%5fsys%5F" + key[7:]:           "/REDACTED",
		"/lm_sys_%30" + key[8:] + "?a=":    "/REDACTED?a=",
		"/%6cm_sys_" + key[7:] + "?a=":     "/REDACTED?a=",
		"/%6C%4d_%53y%73%5f" + key[7:]:     "/REDACTED",
		"/l%6d_sys_" + key[7:]:             "/REDACTED",
		"/lm_sys%5f" + key[7:]:             "/REDACTED",
		"/%256cm_sys_" + key[7:]:           "/REDACTED",
		"/%25%36%43m_sys_" + key[7:]:       "/REDACTED",
		"/%%36cm_sys_" + key[7:] + " b":    "/REDACTED b",
		"/a%20b%6cm_sys_" + key[7:] + "&%": "/a%20bREDACTED&%",
		key[:40] + "…":                     "REDACTED…",
		"lm_sys":                           "lm_sys",
		"%6cm%5fsys":                       "%6cm%5fsys",
		"100% of lm_ sys_ %5 %":            "100% of lm_ sys_ %5 %",
	} {
		if got := token.Redact(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
		if token.Mentions(text) != (text != want) {
			t.Errorf("%q: Mentions disagrees with Redact", text)
		}
	}
}

func TestKeysInBasicCredentials(t *testing.T) {
	t.Parallel()
	key := token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})
	for _, pair := range []string{":" + key, "u:" + key, "us:" + key, "use:" + key, key + ":", key, "u:%6cm_sys_" + key[7:], "u\xff:" + key} {
		std, raw := base64.StdEncoding.EncodeToString([]byte(pair)), base64.RawURLEncoding.EncodeToString([]byte(pair))
		for _, value := range []string{"Basic " + std, "bAsIc   " + raw, "BASIC " + std[:7] + "." + std[7:], "Basic " + std + "=="} {
			if !token.BasicHolds(value) {
				t.Errorf("%q: the key in %q is not found", value, pair)
			}
			line := `{"a b":["` + value + `"],"c":1}` + "\n"
			want := `{"a b":["REDACTED"],"c":1}` + "\n"
			if got := token.Redact(line); got != want {
				t.Errorf("%q becomes %q, want %q", line, got, want)
			}
		}
	}
	for _, value := range []string{
		"", "Basic", "Basic ", "Basic dXNlcjpwYXNz", "Basic bG1fc3lzXzAwMDA=", "Bearer " + base64.StdEncoding.EncodeToString([]byte(key)), "Basi " + base64.StdEncoding.EncodeToString([]byte(key)),
	} {
		if token.BasicHolds(value) {
			t.Errorf("%q is said to hold a key", value)
		}
	}
	for _, text := range []string{"basic dXNlcjpwYXNz", "a basic truth", "basic ", "Basic =", " "} {
		if got := token.Redact(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	key := token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})
	body := key[len(token.Prefix):]
	for text, want := range map[string]bool{
		"":                                     false,
		key:                                    true,
		"x" + key + "x":                        true,
		"Token token=\"" + key + "\"":          true,
		strings.ToUpper(key):                   true,
		"lm_sys_":                              false,
		"see lm_sys_ in the documentation, it": false,
		"lm_sys_" + body[:19]:                  false,
		"lm_sys_" + body[:19] + "&" + body:     false,
		"lm_sys_" + body[:20]:                  true,
		"lm_sys_" + body[:5] + "&" + key:       true,
		"lm_sys_lm_sys_" + body:                true,
		"%6cm_sys_" + body:                     true,
		"LM%5FSYS%5f" + body:                   true,
		"%256Cm_sys_" + body:                   true,
		"%25256cm_sys_" + body:                 false, // three times
		"lm_sys_" + encodeAll(body):            true,
		encodeAll(key):                         true,
		encodeAll(encodeAll(key)):              true,
		"%%36cm_sys_" + body:                   true,
		"%zz" + key + "%":                      true,
		"lm%5_sys_" + body:                     false,
		"lm_sys_" + strings.Repeat("a", 20):    true,
		"lm_sys_last_visited_dashboard_page":   false,
		"lm_sys_the-prefix-of-all-system-keys": false,
		// As another service may have minted them.
		"lm_sys_550e8400-e29b-41d4-a716-446655440000": true,
		"lm_sys_Qp_x-Yd0kV_w3Fh-zZt_aBcDeFgHiJkLmNoP": true,
	} {
		if got := token.Holds(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// encodeAll percent-encodes every byte.
func encodeAll(s string) string {
	const digits = "0123456789aBcDeF"
	var b strings.Builder
	for i := range len(s) {
		b.WriteString("%" + string(digits[s[i]>>4]) + string(digits[s[i]&15]))
	}
	return b.String()
}

// TestHostileTextsCostLittle has texts that are nothing but beginnings.
func TestHostileTextsCostLittle(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"lm_sys_", "lm_sys_,", "%6cm_sys_", "%", "_", "%25", "%6c", "lm_sys_aaaaaaaaaaaaaaaaaaa_", "lm_sys%5f,lm_sys_,", "basic ", "Basic bG1fc3lzXzA= "} {
		text := strings.Repeat(unit, 1<<20/len(unit))
		_ = token.Holds(text) // it ends
		if clean := token.Redact(text); token.Mentions(clean) {
			t.Errorf("%q: something is left", unit)
		}
	}
}

// FuzzRedact holds that a key is found and taken out wherever it stands and however
// its bytes are encoded, and that what is around it is left alone.
func FuzzRedact(f *testing.F) {
	f.Add("a=", "&b", uint64(0), uint64(0))
	f.Add("%", "%", ^uint64(0), uint64(5))
	f.Add("%6", "", uint64(1), ^uint64(0))
	f.Add(`{"uri":"/lm_sys_x?`, `"}`, uint64(0x55), uint64(0x7f))
	key := token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})
	f.Fuzz(func(t *testing.T, before, after string, once, twice uint64) {
		spelled := spell(key, once, twice)
		text := before + spelled + after
		if !token.Holds(spelled) || !token.Holds(text) && !strings.HasSuffix(before, "%") && !endsInEscape(before) {
			t.Fatalf("%q is not found", text)
		}
		clean := token.Redact(text)
		if token.Mentions(clean) || strings.Contains(clean, spelled) || strings.Contains(clean, key[29:72]) {
			t.Errorf("%q becomes %q", text, clean)
		}
		if again := token.Redact(clean); again != clean {
			t.Errorf("%q becomes %q, and that %q", text, clean, again)
		}
		if got, changed := token.RedactBytes([]byte(text)); string(got) != clean || changed != (clean != text) {
			t.Errorf("%q becomes %q as bytes", text, got)
		}
		if !token.Mentions(before+"x"+after) && !strings.ContainsAny(before, "lLmM%") {
			if !strings.HasPrefix(clean, before+token.Redacted) || !strings.HasSuffix(clean, strings.TrimLeft(after, "%-._~+/="+alphabet)) {
				t.Errorf("%q becomes %q: something else is gone", text, clean)
			}
		}
	})
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// endsInEscape reports whether what follows s may belong to an escape that s begins.
func endsInEscape(s string) bool { return strings.Contains(s[max(0, len(s)-8):], "%") }

// spell encodes some of the bytes of a key once, and some twice.
func spell(key string, once, twice uint64) string {
	var b strings.Builder
	for i := range len(key) {
		one := string(key[i])
		if once>>(i%64)&1 == 1 {
			one = encodeAll(one)
		}
		if twice>>(i%64)&1 == 1 {
			one = encodeAll(one)
		}
		b.WriteString(one)
	}
	return b.String()
}

// TestAPathWithoutAKeyIsFree is about each request that becomes an audit record.
func TestAPathWithoutAKeyIsFree(t *testing.T) { //nolint:paralleltest // counts allocations
	for _, path := range []string{"/", "/v1/bots/4711/messages", "/v1/b/%C3%A9/lm_sys", "/Basics/basic"} {
		if n := testing.AllocsPerRun(100, func() { _ = token.Redact(path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

// BenchmarkRedactBytes looks through a line of an access log.
func BenchmarkRedactBytes(b *testing.B) {
	line := []byte(accessLine)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, changed := token.RedactBytes(line); changed {
			b.Fatal("something was taken out")
		}
	}
}

// accessLine is what Caddy logs of a browser's request, in 1.5 kB.
const accessLine = `{"level":"info","ts":1764243600.1234567,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"203.0.113.7","remote_port":"51515",` +
	`"client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"GET","host":"api.example.com","uri":"/v1/bots?limit=25&sort=-created_at&q=a%20b%2Cc","headers":{"Accept":["application/json, text/plain, */*"],` +
	`"Accept-Encoding":["gzip, deflate, br, zstd"],"Accept-Language":["de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"],"Authorization":["REDACTED"],"Cache-Control":["no-cache"],"Cookie":["REDACTED"],` +
	`"Origin":["https://app.example.com"],"Referer":["https://app.example.com/bots/0199d3f0-0000-7000-8000-000000000001"],"Sec-Ch-Ua":["\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\""],` +
	`"Sec-Fetch-Mode":["cors"],"Sec-Fetch-Site":["same-site"],"User-Agent":["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"]},` +
	`"tls":{"resumed":false,"version":772,"cipher_suite":4865,"proto":"h2","server_name":"api.example.com","ech":false}},"bytes_read":0,"user_id":"0199d3f0-0000-7000-8000-000000000001",` +
	`"duration":0.001234567,"size":2048,"status":200,"resp_headers":{"Server":["Caddy"],"Alt-Svc":["h3=\":443\"; ma=2592000"],"Content-Type":["application/json"],"Date":["Fri, 27 Nov 2026 12:00:00 GMT"],` +
	`"Cache-Control":["no-store"],"X-Request-Id":["0199d3f0-0000-7000-8000-000000000002"],"Strict-Transport-Security":["max-age=31536000"],"Vary":["Accept-Encoding"],"X-Content-Type-Options":["nosniff"]},"system_key_label":"Twitch Bot Key"}` + "\n"
