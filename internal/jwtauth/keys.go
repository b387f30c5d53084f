package jwtauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/lumio-vision/caddy-system-keys/internal/nesting"
)

const (
	// freshFor is how long a set is used before it is loaded again. A key that the issuer has
	// withdrawn is accepted for so long at most, while the issuer answers.
	freshFor = 5 * time.Minute
	// staleFor is how long a set is used while it cannot be loaded again. An outage of the
	// issuer must not lock people out at once, and a withdrawn key must not be good for ever.
	staleFor = time.Hour
	// refetchFloor is the least time between two attempts to load. A key id that is not
	// in the set may be that of a new key. It may also be invented, and a client can
	// invent any number of ids.
	refetchFloor = 10 * time.Second
	loadTimeout  = 5 * time.Second
	// maxSet bounds the text of a set, in bytes. The issuer is trusted, and the network on the
	// way to it is not, if the URL has no TLS.
	maxSet = 1 << 20
)

// keys are the keys of an issuer. The set is loaded when a token needs it: a server without
// people asks nobody. Keys are safe for concurrent use.
type keys struct {
	// load reads the text of the set. It is nil if the only key is configured.
	load func(ctx context.Context) ([]byte, error)
	now  func() time.Time

	mu      sync.Mutex
	set     jwk.Set       // nil until it was loaded for the first time
	loaded  time.Time     // when set was loaded
	tried   time.Time     // when the last attempt began
	failure error         // of the last attempt
	loading chan struct{} // closed at the end of the attempt that is running; nil if none is
}

// singleKey makes a set of one key, which is never loaded. Another key needs another
// configuration.
func singleKey(key jwk.Key, now func() time.Time) (*keys, error) {
	set := jwk.NewSet()
	if err := set.AddKey(key); err != nil {
		return nil, err
	}
	return &keys{set: set, now: now}, nil
}

// find returns the keys that may have signed a token with this key id, or all keys if the
// token names none. An error says that the newest set cannot be had: a key that is not in
// an old set may be in the newest.
func (k *keys) find(ctx context.Context, id string) ([]jwk.Key, error) {
	set, age, _ := k.current()
	if k.load == nil {
		return withID(set, ""), nil // the configured key has no id
	}
	// If no key fits, the issuer may have a new key, so the set is loaded again below.
	if set != nil && age < freshFor {
		if found := withID(set, id); len(found) > 0 {
			return found, nil
		}
	}
	if err := k.reload(ctx); err != nil {
		return nil, err
	}
	// If the last attempt has failed, an old set still serves the keys that are in it. It
	// cannot say that a key does not exist.
	set, age, failure := k.current()
	if set != nil && age < staleFor {
		if found := withID(set, id); len(found) > 0 || failure == nil {
			return found, nil
		}
	}
	if failure == nil {
		failure = errors.New("the keys of the issuer were not read yet")
	}
	return nil, failure
}

// current returns the set, how old it is, and the error of the last attempt to load it. The set
// is nil before the first success.
func (k *keys) current() (set jwk.Set, age time.Duration, failure error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set, k.now().Sub(k.loaded), k.failure
}

// reload loads the set, once for all requests that wait for it. It does nothing within
// [refetchFloor] of the last attempt. The error is that of ctx.
func (k *keys) reload(ctx context.Context) error {
	k.mu.Lock()
	loading := k.loading
	if loading == nil {
		if !k.tried.IsZero() && k.now().Sub(k.tried) < refetchFloor {
			k.mu.Unlock()
			return nil
		}
		loading = make(chan struct{})
		k.loading, k.tried = loading, k.now()
		go k.fetch(loading) //nolint:gosec // other requests wait for it too
	}
	k.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-loading:
		return nil
	}
}

// fetch makes one attempt to load the set. It outlives the request that began it: others wait
// for it, and a client that goes away must not be able to end it. An old set stays after a
// failure.
func (k *keys) fetch(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	var set jwk.Set
	text, err := k.load(ctx)
	if err == nil {
		err = nesting.Check(text)
	}
	if err == nil {
		// A key that the library does not know is ignored, as RFC 7517 section 5 recommends.
		if set, err = jwk.Parse(text, jwk.WithIgnoreParseError(true)); err != nil {
			err = errors.New("it is not a JSON Web Key Set") // the library's error quotes the text
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure = nil; err != nil {
		k.failure = fmt.Errorf("read the keys of the issuer: %w", err)
	} else {
		k.set, k.loaded = set, k.now()
	}
	k.loading = nil
	close(done)
}

// withID returns the keys of the set with this id, or all keys if the id is empty. It leaves out
// keys that are not for signatures (RFC 7517 section 4.2). Several keys may have one id.
func withID(set jwk.Set, id string) []jwk.Key {
	var found []jwk.Key
	for i := range set.Len() {
		key, ok := set.Key(i)
		if !ok {
			continue
		}
		if use, ok := key.KeyUsage(); ok && use != string(jwk.ForSignature) {
			continue
		}
		if kid, _ := key.KeyID(); id == "" || kid == id {
			found = append(found, key)
		}
	}
	return found
}

// fromFile returns a function that reads a file. The file may change while the server runs.
func fromFile(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		return readLimited(f)
	}
}

// fromURL returns a function that fetches a URL. It keeps no connection open in between.
func fromURL(url string) func(context.Context) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	return func(ctx context.Context) ([]byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Accept", "application/jwk-set+json, application/json")
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer func() { _ = response.Body.Close() }() // the text was read before
		if response.StatusCode != http.StatusOK {
			return nil, errors.New("the status is " + strconv.Itoa(response.StatusCode))
		}
		return readLimited(response.Body)
	}
}

// readLimited reads up to [maxSet] bytes. More is an error.
func readLimited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSet+1))
	if err == nil && len(text) > maxSet {
		err = errors.New("it is too long")
	}
	return text, err
}

// parseKey reads the key of a configuration: a public key, or a secret with no less than
// minSecret bytes. No error repeats the key.
func parseKey(text []byte, secret bool, minSecret int) (jwk.Key, error) {
	isPEM := bytes.Contains(text, []byte("-----BEGIN"))
	switch {
	case secret && isPEM:
		return nil, errors.New("jwt: the key is in PEM form, and the algorithms take a secret: " +
			"a public key must never serve as one")
	case secret && len(text) < minSecret:
		return nil, fmt.Errorf("jwt: the key must be at least %d bytes long (RFC 7518 section 3.2)", minSecret)
	case secret:
		return jwk.Import(text)
	case !isPEM:
		return nil, errors.New("jwt: the key must be a public key in PEM form")
	case strings.Contains(string(text), "PRIVATE KEY"):
		return nil, errors.New("jwt: the key is a private one; what verifies is the public key")
	}
	key, err := jwk.ParseKey(text, jwk.WithPEM(true))
	if err != nil {
		return nil, errors.New("jwt: the key is not a public key in PEM form")
	}
	return key, nil
}
