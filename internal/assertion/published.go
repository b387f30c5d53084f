package assertion

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Path is where the public keys are served.
const Path = "/.well-known/lumio-keys.json"

// cacheControl lets caches keep a set for a minute. If they cannot get another set, they
// may keep it for as long as an instance does (RFC 5861 section 4).
var cacheControl = fmt.Sprintf("public, max-age=60, stale-if-error=%d", setStaleFor/time.Second)

// Published reads the public keys of all instances, and remembers them for a moment. It
// is safe for concurrent use.
type Published struct {
	keys store.SigningKeys
	now  func() time.Time

	mu      sync.Mutex
	set     *KeySet   // the last set that was read; nil before the first
	failed  time.Time // when the last read failed; zero if it did not
	failure error
	reading chan struct{} // closed at the end of the read that is running
	running sync.WaitGroup
	closed  bool
}

// KeySet is a JSON Web Key Set as it was in the store at a moment.
type KeySet struct {
	body, etag string
	read       time.Time // no later than that moment
	// Age is how old the set is if the store cannot be read, and zero otherwise.
	Age time.Duration
}

// NewPublished makes a reader of the public keys in the store. It reads nothing yet.
func NewPublished(keys store.SigningKeys, now func() time.Time) *Published {
	return &Published{keys: keys, now: now}
}

// Current returns a set that is no older than half a second. While the store cannot be
// read it returns the last set, for [setStaleFor]. After that the error is the store's.
func (p *Published) Current(ctx context.Context) (*KeySet, error) {
	began := p.now()
	for {
		p.mu.Lock()
		switch {
		case p.set != nil && began.Sub(p.set.read) < setFreshFor:
			defer p.mu.Unlock()
			return p.set, nil
		case p.closed || !p.failed.IsZero() && p.now().Sub(p.failed) < retryInterval:
			defer p.mu.Unlock()
			return p.stale()
		}
		reading := p.reading
		if reading == nil {
			reading = make(chan struct{})
			p.reading = reading
			p.running.Go(func() { p.read(reading) })
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-reading: // the read may have begun long ago, so its age is checked again
		}
	}
}

// stale returns the last set if it may still be served, with its age. The caller holds
// the lock.
func (p *Published) stale() (*KeySet, error) {
	if p.set != nil {
		if age := p.now().Sub(p.set.read); age < setStaleFor {
			stale := *p.set
			stale.Age = age
			return &stale, nil
		}
	}
	if p.failure == nil {
		return nil, store.ErrClosed
	}
	return nil, p.failure
}

// read reads the keys for all requests that wait. It outlives the request that began it.
func (p *Published) read(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	set := &KeySet{read: p.now()}
	keys, err := p.keys.SigningKeys(ctx)
	body := keySet(keys)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(done)
	p.reading = nil
	if err != nil {
		p.failed, p.failure = p.now(), err
		return
	}
	sum := sha256.Sum256(body)
	set.body, set.etag = string(body), `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`
	p.set, p.failed, p.failure = set, time.Time{}, nil
}

// Close waits for the read that is running. Later calls read nothing.
func (p *Published) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.running.Wait()
}

// ServeHTTP answers GET and HEAD. The answer is 304 if the client already has the set.
func (s *KeySet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/jwk-set+json") // RFC 7517 section 8.5.2
	header.Set("Cache-Control", cacheControl)
	header.Set("Etag", s.etag)
	if s.Age > 0 { // RFC 9111 section 5.1
		header.Set("Age", strconv.Itoa(int(s.Age/time.Second)))
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(s.body))
}
