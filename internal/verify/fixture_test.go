package verify_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// cheap are the parameters of the fixtures' hashes: real Argon2id, at its least.
var cheap = phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}

// fixture is a verifier on a store in memory whose reads can be watched, failed
// and held up, which no real store lets a test do at the right instant.
type fixture struct {
	verifier *verify.Verifier
	minter   *token.Minter
	store    *memory
	proofs   *proofs
	slots    *hashing.Slots
	clock    *clock
	lease    *lease
	inFlight *coherence.InFlight
	finder   *adopt.Finder // nil if no keys are adopted
}

// maxAge is what entries are surely older than.
const maxAge = verify.DefaultMaxAge * 11 / 10

func newFixture(tb testing.TB, options ...func(*verify.Config)) *fixture {
	tb.Helper()
	var mintKey [32]byte
	_, _ = rand.Read(mintKey[:])
	f := &fixture{
		minter: token.New(mintKey),
		store:  &memory{rows: make(map[store.ID]store.Key)},
		proofs: &proofs{values: make(map[string][]byte)},
		slots:  hashing.NewSlots(cheap, 1<<20),
		clock:  new(clock),
		lease:  new(lease),
	}
	f.lease.state.Store(uint32(coherence.LeaseCached))
	f.inFlight = coherence.NewInFlight(f.clock.now)
	config := verify.Config{
		Store:    f.store,
		Lease:    f.lease,
		InFlight: f.inFlight,
		Minter:   f.minter,
		Slots:    f.slots,
		Logger:   slog.New(slog.DiscardHandler),
		Now:      f.clock.now,
	}
	for _, o := range options {
		o(&config)
	}
	f.finder = config.Adopt
	f.verifier = verify.New(config)
	tb.Cleanup(f.verifier.Close)
	return f
}

// withProofs gives the verifier a shared cache.
func (f *fixture) withProofs(c *verify.Config) {
	c.Proofs = f.proofs
	c.Secrets = [][]byte{[]byte("first secret of the test")}
}

// mint puts a key into the store without telling the verifier.
func (f *fixture) mint(tb testing.TB, label string, permissions ...string) (store.ID, string) {
	tb.Helper()
	return f.mintHashed(tb, cheap, store.Key{Label: label, Permissions: permissions})
}

func (f *fixture) mintHashed(tb testing.TB, params phc.Params, row store.Key) (store.ID, string) {
	tb.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		tb.Fatal(err)
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	key := f.minter.Mint(id, secret)
	hash, err := phc.Hash(key, params)
	if err != nil {
		tb.Fatal(err)
	}
	row.ID, row.Hash = store.ID(id), store.Hash(hash)
	f.store.put(row)
	return row.ID, key
}

// lease stands as the test says.
type lease struct {
	state atomic.Uint32
	wants atomic.Int32

	unfollowed atomic.Bool
}

func (l *lease) State(time.Time) coherence.LeaseState { return coherence.LeaseState(l.state.Load()) }
func (l *lease) Want()                                { l.wants.Add(1) }
func (l *lease) Unfollowed() bool                     { return l.unfollowed.Load() }
func (l *lease) set(s coherence.LeaseState)           { l.state.Store(uint32(s)) }

// clock is the real one until it is frozen or moved.
type clock struct {
	frozen atomic.Pointer[time.Time]
	ahead  atomic.Int64
	next   atomic.Pointer[func()]
}

// onNext runs something when the clock was read once more.
func (c *clock) onNext(hook func()) { c.next.Store(&hook) }

func (c *clock) now() time.Time {
	if hook := c.next.Swap(nil); hook != nil {
		defer (*hook)()
	}
	t := time.Now()
	if f := c.frozen.Load(); f != nil {
		t = *f
	}
	return t.Add(time.Duration(c.ahead.Load()))
}

func (c *clock) freeze() {
	t := time.Now()
	c.frozen.Store(&t)
}

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// memory is a store whose every read passes through hooks.
type memory struct {
	mu    sync.Mutex
	rows  map[store.ID]store.Key
	reads int
	fail  error
	// rehash is what a new hash is refused with.
	rehash error
	// after runs when a row was read and before it is returned.
	after func(id store.ID)
}

func (m *memory) put(row store.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[row.ID] = row
}

func (m *memory) remove(id store.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, id)
}

func (m *memory) row(id store.ID) store.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[id]
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) setRehash(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rehash = err
}

func (m *memory) setAfter(hook func(store.ID)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = hook
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

func (m *memory) Key(ctx context.Context, id store.ID) (*store.Key, error) {
	m.mu.Lock()
	m.reads++
	row, ok := m.rows[id]
	fail, after := m.fail, m.after
	m.mu.Unlock()
	if after != nil {
		after(id)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case fail != nil:
		return nil, fail
	case !ok:
		return nil, store.ErrNotFound
	}
	return &row, nil
}

func (m *memory) RehashKey(_ context.Context, id store.ID, old, renewed store.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row, ok := m.rows[id]
	switch {
	case m.rehash != nil:
		return m.rehash
	case !ok:
		return store.ErrNotFound
	case row.Hash != old:
		return store.ErrConflict
	}
	row.Hash = renewed
	m.rows[id] = row
	return nil
}

// proofs is a shared cache that can be looked into, tampered with and failed.
type proofs struct {
	mu     sync.Mutex
	values map[string][]byte
	fail   error
	gets   int
	ttl    time.Duration
}

func (p *proofs) Get(_ context.Context, address string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gets++
	return p.values[address], p.fail
}

func (*proofs) Check(context.Context, string) {}
func (*proofs) Close() error                  { return nil }

func (p *proofs) Set(_ context.Context, address string, value []byte, ttl time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values[address] = value
	p.ttl = ttl
	return p.fail
}

// each replaces every value.
func (p *proofs) each(change func(address string, value []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, value := range p.values {
		p.values[address] = change(address, value)
	}
}

// later reports whether it is not known now whose a string is.
func later(err error) bool {
	_, ok := errors.AsType[*adopt.LaterError](err)
	return ok
}
