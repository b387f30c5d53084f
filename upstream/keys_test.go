package upstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// proxy publishes keys, in the time of a synctest bubble.
type proxy struct {
	mu      sync.Mutex
	keys    []object
	down    bool
	status  int
	age     string
	latency time.Duration
	asked   int
}

func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.asked++
	down, status, age, latency := p.down, p.status, p.age, p.latency
	body, err := json.Marshal(object{"keys": p.keys})
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if down {
		return nil, errors.New("connection refused")
	}
	response := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
	if age != "" {
		response.Header.Set("Age", age)
	}
	return response, nil
}

func (p *proxy) change(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *proxy) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// newProxy publishes the keys of these signers.
func newProxy(signers ...signer) *proxy {
	p := &proxy{status: http.StatusOK, latency: 10 * time.Millisecond}
	for _, s := range signers {
		p.keys = append(p.keys, s.jwk(nil))
	}
	return p
}

func (p *proxy) verifier(options ...upstream.Option) *upstream.Verifier {
	return upstream.New("https://keys.example.com/", "lumio-api", append([]upstream.Option{
		upstream.WithHTTPClient(&http.Client{Transport: p}), upstream.WithLogger(slog.New(slog.DiscardHandler)),
	}, options...)...)
}

// now is a request that the signer signs now.
func now(ctx context.Context, s signer) *http.Request {
	c := with(vectorClaims(), object{"iat": time.Now().Unix(), "exp": time.Now().Unix() + 60, "htu": "http://api/bots/17"})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://api/bots/17", http.NoBody)
	r.Header.Set("X-Lumio-Assertion", s.sign(s.header(), c))
	return r
}

// in runs a test in a bubble.
func in(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func must(t *testing.T, v *upstream.Verifier, s signer, want error) {
	t.Helper()
	id, err := v.Verify(now(t.Context(), s))
	if want == nil && (err != nil || id.KeyID != vectorID) || want != nil && !errors.Is(err, want) {
		t.Errorf("got %+v, %v, want %v", id, err, want)
	}
}

func TestManyRequestsReadTheKeysOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		one := signerOf("one")
		p := newProxy(one)
		v := p.verifier()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { must(t, v, one, nil) })
		}
		wg.Wait()
		if n := p.questions(); n != 1 {
			t.Errorf("the keys were read %d times", n)
		}
	})
}

// TestANewKeyIsAccepted at its first use, right after one that was read for another
// reason, and without a flood of questions.
func TestANewKeyIsAccepted(t *testing.T) {
	in(t, func(t *testing.T) {
		one, two, three := signerOf("one"), signerOf("two"), signerOf("three")
		p := newProxy(one)
		v := p.verifier()
		must(t, v, one, nil)
		for _, next := range []signer{two, three} {
			p.change(func() { p.keys = append(p.keys, next.jwk(nil)) })
			began := time.Now()
			must(t, v, next, nil)
			if took := time.Since(began); took > time.Second+20*time.Millisecond {
				t.Errorf("it waited for %v", took)
			}
		}
		if n := p.questions(); n != 3 {
			t.Errorf("the keys were read %d times", n)
		}
	})
}

// TestKeysThatNobodyHasCostAQuestionASecond however many are made up.
func TestKeysThatNobodyHasCostAQuestionASecond(t *testing.T) {
	in(t, func(t *testing.T) {
		one, stranger := signerOf("one"), signerOf("stranger")
		p := newProxy(one)
		v := p.verifier()
		must(t, v, one, nil)
		began, before := time.Now(), p.questions()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for time.Since(began) < 10*time.Second {
					must(t, v, stranger, upstream.ErrInvalid)
				}
			})
		}
		for time.Since(began) < 10*time.Second { // who is known does not wait
			start := time.Now()
			must(t, v, one, nil)
			if took := time.Since(start); took != 0 {
				t.Errorf("a good one waited for %v", took)
			}
			time.Sleep(50 * time.Millisecond)
		}
		wg.Wait()
		if n := p.questions() - before; n > 12 {
			t.Errorf("the keys were read %d times in ten seconds", n)
		}
	})
}

// TestAnOutageIsNoRefusal at the start, for known keys, for unknown ones, and after an
// hour.
func TestAnOutageIsNoRefusal(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(p *proxy){
		"that refuses connections":  func(p *proxy) { p.down = true },
		"that hangs":                func(p *proxy) { p.latency = time.Hour },
		"that answers 503":          func(p *proxy) { p.status = http.StatusServiceUnavailable },
		"that redirects elsewhere":  func(p *proxy) { p.status = http.StatusFound },
		"that has no key any more":  func(p *proxy) { p.keys = nil },
		"that has other keys alone": func(p *proxy) { p.keys = []object{{"kty": "RSA", "kid": "x"}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, stranger := signerOf("one"), signerOf("stranger")
				p := newProxy(one)
				keys := p.keys
				p.change(func() { fail(p) })
				v := p.verifier()
				must(t, v, one, upstream.ErrUnavailable)
				before := p.questions()
				for range 100 {
					must(t, v, one, upstream.ErrUnavailable)
				}
				if n := p.questions() - before; n > 1 {
					t.Errorf("a proxy that is down was asked %d times at once", n)
				}
				p.change(func() { p.keys, p.down, p.status, p.latency = keys, false, http.StatusOK, time.Millisecond })
				time.Sleep(time.Second)
				must(t, v, one, nil)

				p.change(func() { fail(p) })
				for range 59 {
					time.Sleep(time.Minute)
					began := time.Now()
					must(t, v, one, nil)
					if time.Since(began) != 0 {
						t.Error("a known key waits")
					}
				}
				must(t, v, stranger, upstream.ErrUnavailable)
				time.Sleep(time.Minute)
				must(t, v, one, upstream.ErrUnavailable)
				time.Sleep(time.Hour) // and let what hangs end
			})
		})
	}
}

// TestOldKeysSayNothingOfNewOnes has somebody between serve a memory.
func TestOldKeysSayNothingOfNewOnes(t *testing.T) {
	in(t, func(t *testing.T) {
		one, two := signerOf("one"), signerOf("two")
		p := newProxy(one)
		p.age = "30"
		v := p.verifier()
		must(t, v, one, nil)
		must(t, v, two, upstream.ErrUnavailable)
		p.change(func() { p.age, p.keys = "", append(p.keys, two.jwk(nil)) })
		must(t, v, two, nil)
	})
}

// TestKeysAreReadAgain in time, and nobody waits for it.
func TestKeysAreReadAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		one, two := signerOf("one"), signerOf("two")
		p := newProxy(one)
		v := p.verifier()
		must(t, v, one, nil)
		p.change(func() { p.keys = []object{two.jwk(nil)} })
		time.Sleep(5 * time.Minute)
		must(t, v, one, nil)
		time.Sleep(time.Second)
		must(t, v, one, upstream.ErrInvalid)
		must(t, v, two, nil)
	})
}

func TestWhoWaitsForKeysCanGoAway(t *testing.T) {
	in(t, func(t *testing.T) {
		one := signerOf("one")
		p := newProxy(one)
		p.latency = time.Second
		v := p.verifier()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := v.Verify(now(ctx, one)); !errors.Is(err, upstream.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second) // the question goes on
		must(t, v, one, nil)
		if p.questions() != 1 {
			t.Errorf("the keys were read %d times", p.questions())
		}
	})
}
