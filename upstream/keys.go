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
	// freshFor is how long keys are used without looking for newer ones.
	freshFor = 5 * time.Minute
	// staleFor is how long they are used while newer ones cannot be had.
	staleFor = time.Hour
	// floor is the least time between the beginnings of two questions. A key that
	// is not known may be a new one, or any name that somebody made up.
	floor        = time.Second
	fetchTimeout = 5 * time.Second
	maxSet       = 1 << 20 // bytes
)

// errUnknownKey says that the newest keys do not have it.
var errUnknownKey = errors.New("its key is not one of the proxy")

// keys are those that the proxy publishes, read when they are needed.
type keys struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	known    map[string]ed25519.PublicKey // nil until they were read once
	asked    time.Time                    // when the question began that known is the answer to
	cached   bool                         // the answer was somebody's memory
	tried    time.Time                    // when the last question began
	next     time.Time                    // when another may begin
	failure  error                        // of the last question
	fetching chan struct{}                // closed at the end of the one that is running
}

func newKeys(url string) *keys {
	return &keys{url: url, client: &http.Client{
		Timeout: fetchTimeout,
		// Keys are where they are said to be, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// find returns the key with this id. The error is [ErrInvalid] if a set that was
// asked for after the call does not have it, and [ErrUnavailable] if there is none
// such.
func (k *keys) find(ctx context.Context, id string) (ed25519.PublicKey, error) {
	arrived := k.now()
	for {
		k.mu.Lock()
		key, wait, err := k.look(id, arrived)
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

// look finds the key in what there is, or begins to look for more. If it returns
// neither key nor error, it is to be asked again after a wait, or when the question
// that is running has ended. The caller holds the lock.
func (k *keys) look(id string, arrived time.Time) (ed25519.PublicKey, time.Duration, error) {
	now := k.now()
	age := now.Sub(k.asked)
	waited := !now.Before(k.next)
	if key := k.known[id]; key != nil && age < staleFor {
		if age >= freshFor && waited {
			k.begin(now) // and nobody waits for it
		}
		return key, 0, nil
	}
	if k.known != nil && !k.asked.Before(arrived) {
		if k.cached { // by a proxy that cannot reach its store, or by one between
			return nil, 0, unavailable(errors.New("the keys that are served are old ones"))
		}
		return nil, 0, invalid(errUnknownKey)
	}
	switch {
	case k.fetching != nil:
		return nil, 0, nil
	case k.failure != nil && (!waited || !k.tried.Before(arrived)):
		return nil, 0, unavailable(k.failure)
	case waited:
		k.begin(now)
		return nil, 0, nil
	}
	return nil, k.next.Sub(now), nil
}

// await returns when the question has ended or the time is over.
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

// begin asks for the keys, once for all who wait. It outlives the request for which
// it began. The caller holds the lock.
func (k *keys) begin(now time.Time) {
	if k.fetching != nil {
		return
	}
	done := make(chan struct{})
	k.fetching, k.tried, k.next = done, now, now.Add(floor)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		known, cached, err := k.fetch(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		defer close(done)
		k.fetching = nil
		if k.failure = err; err == nil {
			k.known, k.asked, k.cached = known, now, cached
		} else {
			k.next = k.now().Add(floor) // one that hangs is not asked at once again
		}
	}()
}

func (k *keys) fetch(ctx context.Context) (known map[string]ed25519.PublicKey, cached bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, false, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("Cache-Control", "no-cache") // for caches between
	response, err := k.client.Do(request)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = response.Body.Close() }() // what was read counts
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
	known, err = parseKeys(text)
	return known, age > 0, err
}

// parseKeys reads a JSON Web Key Set (RFC 7517 section 5). Keys of other kinds, or
// for other purposes, are passed over; a set without any of ours is none.
func parseKeys(text []byte) (map[string]ed25519.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if !shallow(text) || json.Unmarshal(text, &set) != nil {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	known := make(map[string]ed25519.PublicKey, len(set.Keys))
	for _, one := range set.Keys {
		var key struct {
			Type      string `json:"kty"`
			Curve     string `json:"crv"`
			ID        string `json:"kid"`
			Algorithm string `json:"alg"`
			Use       string `json:"use"`
			X         string `json:"x"`
		}
		if json.Unmarshal(one, &key) != nil || key.ID == "" || key.Type != "OKP" || key.Curve != "Ed25519" ||
			key.Algorithm != "" && key.Algorithm != algorithm || key.Use != "" && key.Use != "sig" {
			continue
		}
		if public, err := decode(key.X); err == nil && len(public) == ed25519.PublicKeySize {
			known[key.ID] = public
		}
	}
	if len(known) == 0 {
		return nil, errors.New("there is no Ed25519 key in it")
	}
	return known, nil
}
