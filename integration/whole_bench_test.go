package integration_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// dear has new keys hashed at the default cost.
func dear(keys *admin.Service) *admin.Service {
	keys.Hash = hashing.NewSlots(phc.Default(), 64<<20).Hash
	return keys
}

// atDefaultCost is run with the default of argon2id.
func atDefaultCost(tb testing.TB, b *backend, site string) (url string) {
	tb.Helper()
	url = "http://" + testenv.FreeAddress(tb)
	load(tb, globals(b.options+"\n")+fmt.Sprintf("%s {\n%s\n}\n", url, site))
	return url
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkFirstCheck compares the first request with a key with what cannot be done
// without: Argon2id with the same parameters, and one row. They take turns.
func BenchmarkFirstCheck(b *testing.B) {
	for _, backend := range backends(b) {
		b.Run(backend.name, func(b *testing.B) {
			keys := dear(backend.keys(b))
			url := atDefaultCost(b, backend, "system_key_auth\nrespond hello")
			cost, salt := phc.Default(), make([]byte, 16)
			_, _ = rand.Read(salt) // it never fails
			var ratios []float64
			for b.Loop() {
				b.StopTimer()
				key, plain := mint(b, keys, "bot", "bots:read")
				began := time.Now()
				argon2.IDKey([]byte(plain), salt, cost.Iterations, cost.Memory, cost.Parallelism, 32)
				if _, err := keys.Store.Key(b.Context(), key.ID); err != nil {
					b.Fatal(err)
				}
				floor := time.Since(began)
				b.StartTimer()
				began = time.Now()
				if status, _, body := get(b, url, "Bearer "+plain); status != http.StatusOK {
					b.Fatalf("%d %s", status, body)
				}
				ratios = append(ratios, float64(time.Since(began))/float64(floor))
			}
			b.ReportMetric(median(ratios), "÷(Argon2id+row)")
		})
	}
}

// BenchmarkStorm has a thousand clients, each with a key of its own, come at the same
// moment to a server that has just started, and come back as long as they get 503.
func BenchmarkStorm(b *testing.B) {
	for _, backend := range backends(b) {
		b.Run(backend.name, func(b *testing.B) {
			keys := dear(backend.keys(b))
			plain := make([]string, 1000)
			for i := range plain {
				_, plain[i] = mint(b, keys, "bot")
			}
			var refused atomic.Int64
			for b.Loop() {
				b.StopTimer()
				url := atDefaultCost(b, backend, "system_key_auth\nrespond hello")
				b.StartTimer()
				var clients sync.WaitGroup
				for _, key := range plain {
					clients.Go(func() {
						for status, _, _ := get(b, url, "Bearer "+key); status != http.StatusOK; status, _, _ = get(b, url, "Bearer "+key) {
							if status != http.StatusServiceUnavailable {
								b.Errorf("a good key got %d", status)
								return
							}
							refused.Add(1)
							time.Sleep(time.Second + time.Duration(mathrand.Int64N(int64(time.Second))))
						}
					})
				}
				clients.Wait()
			}
			b.ReportMetric(float64(refused.Load())/float64(b.N), "503/op")
		})
	}
}

// BenchmarkRefusal shows what can be told from the time of a refusal: all kinds of
// keys that nobody has minted should take as long. -count and benchstat compare them.
func BenchmarkRefusal(b *testing.B) {
	backend := onSQLite(b)
	keys := backend.keys(b)
	_, live := mint(b, keys, "bot")
	key, revoked := mint(b, keys, "gone")
	revokeAndWait(b, keys, key)
	url := "http://" + run(b, backend, "system_key_auth {\nfailure_limit 1000000 1s\n}\nrespond hello")
	other := func(key string, at int) string { // another digit there
		digit := byte('0')
		if key[at] == digit {
			digit = '1'
		}
		return key[:at] + string(digit) + key[at+1:]
	}
	length := len(live) - len("lm_sys_")
	for _, kind := range []struct{ name, key string }{
		{"digits", "lm_sys_" + strings.Repeat("0", length)},
		{"no digits", "lm_sys_" + strings.Repeat("-", length)},
		{"numbers too large", "lm_sys_" + strings.Repeat("z", length)},
		{"live, other tag", other(live, len(live)-1)},
		{"live, other secret", other(live, 50)},
		{"live, other id", other(live, 20)},
		{"revoked, other tag", other(revoked, len(revoked)-1)},
		{"never stored", keys.Minter.Mint(store.ID{1}, [32]byte{1})},
		{"revoked", revoked},
	} {
		b.Run(kind.name, func(b *testing.B) {
			request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+kind.key)
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			least := math.MaxFloat64
			for b.Loop() {
				began := time.Now()
				response, err := transport.RoundTrip(request)
				if err != nil {
					b.Fatal(err)
				}
				least = min(least, float64(time.Since(began).Nanoseconds()))
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusUnauthorized {
					b.Fatal(response.StatusCode)
				}
			}
			b.ReportMetric(least, "ns-least")
		})
	}
}
