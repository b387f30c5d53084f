package audit_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// memory is a [store.AuditLog] that can fail in ways that no database does on
// demand.
type memory struct {
	store.AuditLog

	mu      sync.Mutex
	records []store.AuditRecord
	chains  map[store.ID]store.AuditChain
	labels  map[store.ID]string
	// down is the error of every call; lost writes and says that it did not.
	down, lost error
	asked      int
}

func newMemory() *memory {
	return &memory{chains: make(map[store.ID]store.AuditChain), labels: make(map[store.ID]string)}
}

func (m *memory) set(down, lost error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down, m.lost = down, lost
}

func (m *memory) AppendAudit(_ context.Context, chain store.ID, records []store.AuditRecord, sealer store.Sealer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return m.down
	}
	for _, r := range m.records {
		if r.ID == records[0].ID {
			return store.ErrConflict
		}
	}
	state := m.chains[chain]
	state.ID, state.Head = chain, sealer.Seal(chain, state.Head, records)
	m.chains[chain] = state
	m.records = append(m.records, records...)
	return m.lost
}

func (m *memory) AuditLabel(_ context.Context, key store.ID) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return m.labels[key], m.down
}

func (m *memory) AuditChains(context.Context) ([]store.AuditChain, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var chains []store.AuditChain
	for _, c := range m.chains {
		chains = append(chains, c)
	}
	return chains, nil
}

func (m *memory) AuditLinks(_ context.Context, chain store.ID, seq int64, limit int) ([]store.AuditRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var links []store.AuditRecord
	for _, r := range m.records {
		if r.Link.Chain == chain && r.Link.Seq > seq && len(links) < limit {
			links = append(links, r)
		}
	}
	return links, nil
}

func (*memory) AuditUnsealed(context.Context) (all, foreign int, err error) { return 0, 0, nil }

// all returns what was written, in that order.
func (m *memory) all() []store.AuditRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]store.AuditRecord(nil), m.records...)
}

var errDown = errors.New("connection refused")

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
