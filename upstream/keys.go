package upstream

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// freshFor is how long a key set is used without asking for a newer one.
	freshFor = 5 * time.Minute
	// staleFor is how long a key set is used while a newer one cannot be read.
	staleFor = time.Hour
	// minInterval is the least time between two requests for the set. An unknown key id
	// may be that of a new key, or made up by a client to cause such requests.
	minInterval  = time.Second
	fetchTimeout = 5 * time.Second
	maxSet       = 1 << 20 // bytes
)

// errUnknownKey says that the newest key set does not have the key.
var errUnknownKey = errors.New("its key is not one of the proxy")

// keys is the key set that the proxy publishes. It is read when it is needed.
type keys struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	set      map[string]ed25519.PublicKey // by key id; nil until it was read once
	setAt    time.Time                    // when the request for the set began
	cached   bool                         // the set comes from a cache, and may be old
	lastAt   time.Time                    // when the last request began
	nextAt   time.Time                    // when the next request may begin
	lastErr  error                        // of the last request
	fetching chan struct{}                // closed at the end of the running request; nil if none runs
}

func newKeys(url string) *keys {
	return &keys{url: url, client: &http.Client{
		// The keys decide who is let in. No redirect may say where they are.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// find returns the key with this id. The error is [ErrInvalid] if a set that was
// requested after the call does not have the key. It is [ErrUnavailable] if no such set
// can be read.
func (k *keys) find(ctx context.Context, id string) (ed25519.PublicKey, error) {
	arrived := k.now()
	for {
		k.mu.Lock()
		key, wait, err := k.lookUp(id, arrived)
		fetching := k.fetching
		k.mu.Unlock()
		if key != nil || err != nil {
			return key, err
		}
		if wait > 0 {
			fetching = nil
		}
		if err := await(ctx, fetching, wait); err != nil {
			return nil, unavailable(err)
		}
	}
}

// lookUp finds the key in the set, or else requests a newer set. If it returns neither
// key nor error, call it again: after the wait, or if that is zero, when the running
// request has ended. The caller holds the lock.
func (k *keys) lookUp(id string, arrived time.Time) (ed25519.PublicKey, time.Duration, error) {
	now := k.now()
	age := now.Sub(k.setAt)
	mayFetch := !now.Before(k.nextAt)
	if key := k.set[id]; key != nil && age < staleFor {
		if age >= freshFor && mayFetch {
			k.startFetch(now) // nobody waits for it
		}
		return key, 0, nil
	}
	if k.set != nil && !k.setAt.Before(arrived) {
		if k.cached { // by a proxy that cannot reach its store, or by a cache in between
			return nil, 0, unavailable(errors.New("the keys that are served are old ones"))
		}
		return nil, 0, invalid(errUnknownKey)
	}
	switch {
	case k.fetching != nil:
		return nil, 0, nil
	case k.lastErr != nil && (!mayFetch || !k.lastAt.Before(arrived)):
		return nil, 0, unavailable(k.lastErr)
	case mayFetch:
		k.startFetch(now)
		return nil, 0, nil
	}
	return nil, k.nextAt.Sub(now), nil
}

// await returns when the running request has ended, or without one after the wait.
func await(ctx context.Context, fetching <-chan struct{}, wait time.Duration) error {
	var over <-chan time.Time
	if fetching == nil {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-fetching:
	case <-over:
	}
	return nil
}

// startFetch requests the set, once for all who wait for it. It goes on when the client
// has gone away for whose request it began. The caller holds the lock.
func (k *keys) startFetch(now time.Time) {
	if k.fetching != nil {
		return
	}
	done := make(chan struct{})
	k.fetching, k.lastAt, k.nextAt = done, now, now.Add(minInterval)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		set, cached, err := k.fetch(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		defer close(done)
		k.fetching = nil
		if k.lastErr = err; err == nil {
			k.set, k.setAt, k.cached = set, now, cached
		} else {
			k.nextAt = k.now().Add(minInterval) // a server that hangs is not asked again at once
		}
	}()
}

// fetch reads the set from the proxy, and whether it comes from a cache.
func (k *keys) fetch(ctx context.Context) (set map[string]ed25519.PublicKey, cached bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, false, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("Cache-Control", "no-cache") // for caches in between
	response, err := k.client.Do(request)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end, or is not used
	if response.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("the status is %d", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxSet+1))
	switch {
	case err != nil:
		return nil, false, err
	case len(text) > maxSet:
		return nil, false, errors.New("the answer is too long")
	}
	age, _ := strconv.Atoi(response.Header.Get("Age")) // RFC 9111 section 5.1
	set, err = parseKeys(text)
	return set, age > 0, err
}

// parseKeys reads a JSON Web Key Set (RFC 7517 section 5). It passes over keys of other
// kinds and for other purposes. A set without an Ed25519 key is an error.
func parseKeys(text []byte) (map[string]ed25519.PublicKey, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if !shallow(text) || json.Unmarshal(text, &document) != nil {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	set := make(map[string]ed25519.PublicKey, len(document.Keys))
	for _, raw := range document.Keys {
		var key struct {
			Type      string `json:"kty"`
			Curve     string `json:"crv"`
			ID        string `json:"kid"`
			Algorithm string `json:"alg"`
			Use       string `json:"use"`
			X         string `json:"x"`
		}
		if json.Unmarshal(raw, &key) != nil || key.ID == "" || key.Type != "OKP" || key.Curve != "Ed25519" ||
			key.Algorithm != "" && key.Algorithm != algorithm || key.Use != "" && key.Use != "sig" {
			continue
		}
		if public, err := decode(key.X); err == nil && len(public) == ed25519.PublicKeySize {
			set[key.ID] = public
		}
	}
	if len(set) == 0 {
		return nil, errors.New("there is no Ed25519 key in it")
	}
	return set, nil
}
