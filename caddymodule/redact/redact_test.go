package redact_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/redact"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// aKey is a whole key, which nobody needs to know.
var aKey = token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})

// encoderOf makes the encoder that wraps this one.
func encoderOf(tb testing.TB, wrap string) zapcore.Encoder {
	tb.Helper()
	e := new(redact.Encoder)
	if wrap != "" {
		e.WrappedRaw = json.RawMessage(wrap)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: tb.Context()})
	tb.Cleanup(cancel)
	if err := e.Provision(ctx); err != nil {
		tb.Fatal(err)
	}
	if err := e.ConfigureDefaultFormat(caddy.DiscardWriter{}); err != nil {
		tb.Fatal(err)
	}
	return e
}

var wraps = map[string]string{
	"nothing":  "",
	"json":     `{"format":"json"}`,
	"console":  `{"format":"console"}`,
	"filter":   `{"format":"filter","wrap":{"format":"json"},"fields":{"b":{"filter":"delete"}}}`,
	"journald": `{"format":"journald","wrap":{"format":"console"}}`,
	"itself":   `{"format":"redact_system_keys","wrap":{"format":"redact_system_keys"}}`,
}

// everywhere logs a key in each place that an entry has.
func everywhere(logger *zap.Logger, key string) {
	logger.With(zap.String("a", key), zap.Namespace("n")).Named("x."+key).Error("message "+key+", "+key+"!",
		zap.String("uri", "/a?token="+key+"&b=1"), zap.Strings("list", []string{"x" + key, key + "y"}), zap.Error(fmt.Errorf("no %w", errors.New(key))),
		zap.Any("any", map[string][]string{key: {key}}), zap.ByteString("bytes", []byte(key)), zap.Stringer("s", bytes.NewBufferString(key)),
		zap.Dict("d", zap.Dict("d", zap.String(key, key))), zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: misplacing(key), ShouldLogCredentials: true}),
		zap.Reflect("r", struct{ Key string }{key}))
}

// misplacing is a request with a key in every place.
func misplacing(key string) *http.Request {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+key))
	return &http.Request{
		Method: http.MethodGet, RequestURI: "/" + key + "?" + key, Host: key,
		Header: http.Header{"Authorization": {basic}, "X-Forwarded-Authorization": {basic}, "X-Api-Key": {key}, "Cookie": {"a=" + key}, key: {"1"}},
	}
}

// TestNoKeyIsLeftInALog encodes a key in every place and spelling, by every encoder.
func TestNoKeyIsLeftInALog(t *testing.T) {
	t.Parallel()
	for name, wrap := range wraps {
		for _, key := range []string{aKey, strings.ToUpper(aKey), "%6cm_sys_" + aKey[7:], "%256C%4d%5fs%79s%255F" + aKey[7:]} {
			var out bytes.Buffer
			core := zapcore.NewCore(encoderOf(t, wrap), zapcore.AddSync(&out), zapcore.DebugLevel)
			logger := zap.New(core, zap.AddStacktrace(zapcore.ErrorLevel))
			everywhere(logger, key)
			logger.Error(key + key)
			logger.Info("nothing to hide")
			text := out.String()
			if strings.Contains(text, key[29:72]) || token.Mentions(text) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte("user:" + key))[12:80]) {
				t.Errorf("%s: a key is in\n%s", name, text)
			}
			if n := strings.Count(text, token.Redacted); n < 16 {
				t.Errorf("%s: only %d keys were taken out of\n%s", name, n, text)
			}
			if !strings.Contains(text, "nothing to hide") || !strings.Contains(text, "redact_test.go") {
				t.Errorf("%s: something is missing from\n%s", name, text)
			}
			if strings.Contains(wrap, "console") {
				continue
			}
			for line := range strings.Lines(text) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s: %s is no JSON", name, line)
				}
			}
		}
	}
}

// TestAnEntryWithoutAKeyIsAsItWas compares with the encoder that is wrapped.
func TestAnEntryWithoutAKeyIsAsItWas(t *testing.T) {
	t.Parallel()
	log := func(encoder zapcore.Encoder) string {
		var out bytes.Buffer
		clock := zap.WithClock(fixed{})
		logger := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zapcore.DebugLevel), clock).With(zap.Int("n", 1))
		logger.With(zap.String("a", "b")).Named("x").Error("lm_sys and %6c%20", zap.Strings("list", []string{"Basic x"}), zap.Any("any", map[string]int{"a": 1}))
		logger.With(zap.Namespace("m")).Debug("", zap.Duration("d", time.Second), zap.Complex64("c", 1))
		return out.String()
	}
	for name, wrap := range wraps {
		if wrap == "" || name == "itself" {
			continue
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		bare, err := ctx.LoadModule(&struct {
			Raw json.RawMessage `caddy:"namespace=caddy.logging.encoders inline_key=format"`
		}{json.RawMessage(wrap)}, "Raw")
		if err != nil {
			t.Fatal(err)
		}
		if want, got := log(bare.(zapcore.Encoder)), log(encoderOf(t, wrap)); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
}

type fixed struct{}

func (fixed) Now() time.Time                       { return time.Unix(1764243600, 0) }
func (fixed) NewTicker(time.Duration) *time.Ticker { return nil }

// TestLoggersShareAnEncoder logs from many goroutines, with contexts of their own.
func TestLoggersShareAnEncoder(t *testing.T) {
	t.Parallel()
	var out safeBuffer
	logger := zap.New(zapcore.NewCore(encoderOf(t, ""), &out, zapcore.DebugLevel))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine := logger.With(zap.Int("mine", i), zap.String("a", aKey))
			for range 200 {
				mine.Info(aKey)
				logger.Info("shared")
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var entry struct {
			Msg  string
			Mine *int
			A    string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if (entry.Mine != nil) != (entry.A == token.Redacted) {
			t.Fatalf("a context is mixed up: %s", line)
		}
		seen[entry.Msg]++
	}
	if seen[token.Redacted] != 1600 || seen["shared"] != 1600 || len(seen) != 2 {
		t.Errorf("%v", seen)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (*safeBuffer) Sync() error { return nil }

// FuzzEncoder holds that no key is left in an entry, whatever is around it, and
// that what is left is what it was: JSON, or a line of text.
func FuzzEncoder(f *testing.F) {
	f.Add("a=", "&b", uint64(0), uint64(0))
	f.Add(`"\`, `\"`, ^uint64(0), uint64(5))
	f.Add("%25", "\x00\xff\u2028", uint64(1), ^uint64(0))
	f.Add("Basic ", "=", uint64(1), uint64(1<<40))
	f.Fuzz(func(t *testing.T, before, after string, once, twice uint64) {
		var spelled strings.Builder
		for i := range len(aKey) {
			switch {
			case twice>>(i%64)&1 == 1:
				fmt.Fprintf(&spelled, "%%25%02X", aKey[i])
			case once>>(i%64)&1 == 1:
				fmt.Fprintf(&spelled, "%%%02x", aKey[i])
			default:
				spelled.WriteByte(aKey[i])
			}
		}
		if strings.Contains(before[max(0, len(before)-8):], "%") {
			before += "=" // an escape of its own would eat the beginning
		}
		text := before + spelled.String() + after
		for _, wrap := range []string{wraps["json"], wraps["console"]} {
			line, err := encoderOf(t, wrap).EncodeEntry(zapcore.Entry{Message: text, Stack: text}, []zapcore.Field{
				zap.String("a", text), zap.Strings(text, []string{text}), zap.String("b", "Basic "+base64.StdEncoding.EncodeToString([]byte(text))),
			})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line.String(), spelled.String()[30:]) || token.Mentions(line.String()) {
				t.Errorf("%q is in %s", spelled.String(), line)
			}
			if strings.Contains(wrap, "json") && !json.Valid(line.Bytes()) {
				t.Errorf("%s is no JSON", line)
			}
		}
	})
}

// BenchmarkEncoder encodes a line of 1.5 kB as an access log has it, with and
// without the encoder around it. The difference is what it costs.
func BenchmarkEncoder(b *testing.B) {
	r := httptest.NewRequest(http.MethodGet, "/v1/bots?limit=25&sort=-created_at&q=a%20b", http.NoBody)
	r.Header = http.Header{
		"Accept": {"application/json, text/plain, */*"}, "Accept-Encoding": {"gzip, deflate, br, zstd"}, "Accept-Language": {"de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"},
		"Authorization": {"Bearer " + aKey}, "Cookie": {"session=" + strings.Repeat("0", 43)}, "Origin": {"https://app.example.com"},
		"Referer":    {"https://app.example.com/bots/0199d3f0-0000-7000-8000-000000000001"},
		"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
	}
	answer := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Vary": {"Accept-Encoding"}, "X-Padding": {strings.Repeat("padding ", 50)}}
	fields := []zapcore.Field{
		zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r}), zap.Int("bytes_read", 0), zap.String("user_id", "0199d3f0-0000-7000-8000-000000000001"),
		zap.Duration("duration", time.Millisecond), zap.Int("size", 2048), zap.Int("status", 200), zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: answer}),
	}
	redacting := encoderOf(b, "").(*redact.Encoder)
	for name, encoder := range map[string]zapcore.Encoder{"json": redacting.Encoder, "redact_system_keys": redacting} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				line, err := encoder.EncodeEntry(zapcore.Entry{Message: "handled request", LoggerName: "http.log.access.log0"}, fields)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(line.Len()))
				line.Free()
			}
		})
	}
}
