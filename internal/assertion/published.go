package assertion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Path is where the public keys are served.
const Path = "/.well-known/lumio-keys.json"

// cacheControl lets caches keep a set for a minute, and for as long as we
// would ourselves while they cannot get another (RFC 5861 section 4).
var cacheControl = fmt.Sprintf("public, max-age=60, stale-if-error=%d", staleFor/time.Second)

// Published is the public keys of all instances. It is safe for concurrent use.
type Published struct {
	keys store.SigningKeys
	now  func() time.Time

	mu      sync.Mutex
	set     *KeySet   // the last that was read; nil before
	failed  time.Time // when the last attempt failed; zero if it did not
	failure error
	reading chan struct{} // closed at the end of the attempt that is running
	running sync.WaitGroup
	closed  bool
}

// KeySet is a JSON Web Key Set as it was in the store at a moment.
type KeySet struct {
	body, etag string
	read       time.Time // no later than the moment
	// Age is how old it is if the store cannot be asked, and zero otherwise.
	Age time.Duration
}

// NewPublished makes the public keys that are in the store. It reads nothing yet.
func NewPublished(keys store.SigningKeys, now func() time.Time) *Published {
	return &Published{keys: keys, now: now}
}

// Current returns the set, no older than half a second. While the store cannot be
// asked it is the last that was read, for a bounded time; then the error says
// why there is none.
func (p *Published) Current(ctx context.Context) (*KeySet, error) {
	began := p.now()
	for {
		p.mu.Lock()
		switch {
		case p.set != nil && began.Sub(p.set.read) < fresh:
			defer p.mu.Unlock()
			return p.set, nil
		case p.closed || !p.failed.IsZero() && p.now().Sub(p.failed) < retry:
			defer p.mu.Unlock()
			return p.last()
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
		case <-reading: // which may have begun long ago: look again
		}
	}
}

// last is what there is while the store cannot be asked.
func (p *Published) last() (*KeySet, error) {
	if p.set != nil {
		if age := p.now().Sub(p.set.read); age < staleFor {
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

// read is for all who wait, and outlives the request that began it.
func (p *Published) read(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	set := &KeySet{read: p.now()}
	keys, err := p.keys.SigningKeys(ctx)
	var body []byte
	if err == nil {
		body, err = keySet(keys)
	}
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

// Close waits for the store to answer what is being asked.
func (p *Published) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.running.Wait()
}

// ServeHTTP answers GET and HEAD, with 304 if the client has the set.
func (s *KeySet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/jwk-set+json") // RFC 7517 section 8.5.2
	header.Set("Cache-Control", cacheControl)
	header.Set("Etag", s.etag)
	if s.Age > 0 { // RFC 9111 section 5.1
		header.Set("Age", strconv.Itoa(int(s.Age/time.Second)))
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte(s.body)))
}
