package audit_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// filled is a log with a chain of ten records under the secret.
func filled(t *testing.T, secret []byte) (*memory, store.ID) {
	t.Helper()
	m := newMemory()
	chain := store.ID{7}
	for i := range 5 {
		records := []store.AuditRecord{sample(2 * i), sample(2*i + 1)}
		if err := m.AppendAudit(t.Context(), chain, records, audit.NewSealer(secret)); err != nil {
			t.Fatal(err)
		}
	}
	return m, chain
}

func sample(i int) store.AuditRecord {
	return store.AuditRecord{
		Event: store.AuditUsed, At: noon.Add(time.Duration(i) * time.Second),
		Actor:   store.AuditActor{Type: store.ActorKey, ID: "a", Label: "b"},
		Key:     store.AuditKey{ID: store.ID{1, byte(i)}, Label: "bot"},
		Request: store.AuditRequest{ID: "r", Method: "POST", Path: "/p", Status: 200, ClientIP: "::1"},
		Details: json.RawMessage(`{}`),
	}.Clean()
}

func verify(t *testing.T, m *memory, secrets ...[]byte) *audit.Report {
	t.Helper()
	report, err := audit.Verify(t.Context(), m, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestAnUntouchedLogVerifies(t *testing.T) {
	t.Parallel()
	m, chain := filled(t, secret)
	other := []byte("another secret, that came after")
	if err := m.AppendAudit(t.Context(), chain, []store.AuditRecord{sample(20)}, audit.NewSealer(other)); err != nil {
		t.Fatal(err)
	}
	report := verify(t, m, other, secret)
	if c := report.Chains[0]; !report.OK(true) || c.First != 1 || c.Last != 11 {
		t.Errorf("report = %+v", report)
	}
	if verify(t, m, other).OK(true) || verify(t, m).OK(false) {
		t.Error("a log verifies without its secret")
	}
}

// TestEveryForgeryShows makes each change that a writer of the database could
// make without the secret.
func TestEveryForgeryShows(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(m *memory, chain store.ID){
		"event":       func(m *memory, _ store.ID) { m.records[4].Event = store.AuditDenied },
		"time":        func(m *memory, _ store.ID) { m.records[4].At = noon },
		"id":          func(m *memory, _ store.ID) { m.records[4].ID[15] ^= 1 },
		"actor type":  func(m *memory, _ store.ID) { m.records[4].Actor.Type = store.ActorSQL },
		"actor":       func(m *memory, _ store.ID) { m.records[4].Actor.ID = "x" },
		"actor label": func(m *memory, _ store.ID) { m.records[4].Actor.Label = "x" },
		"key":         func(m *memory, _ store.ID) { m.records[4].Key.ID[0] = 9 },
		"key label":   func(m *memory, _ store.ID) { m.records[4].Key.Label = "x" },
		"request id":  func(m *memory, _ store.ID) { m.records[4].Request.ID = "x" },
		"method":      func(m *memory, _ store.ID) { m.records[4].Request.Method = "GET" },
		"path":        func(m *memory, _ store.ID) { m.records[4].Request.Path = "/" },
		"status":      func(m *memory, _ store.ID) { m.records[4].Request.Status = 500 },
		"client":      func(m *memory, _ store.ID) { m.records[4].Request.ClientIP = "::2" },
		"details":     func(m *memory, _ store.ID) { m.records[4].Details = json.RawMessage(`{ }`) },
		"no details":  func(m *memory, _ store.ID) { m.records[4].Details = nil },
		"text moved":  func(m *memory, _ store.ID) { m.records[4].Actor.ID, m.records[4].Actor.Label = "ab", "" },
		"one missing": func(m *memory, _ store.ID) { m.records = append(m.records[:4:4], m.records[5:]...) },
		"first ones":  func(m *memory, _ store.ID) { m.records = m.records[3:] },
		"last ones":   func(m *memory, _ store.ID) { m.records = m.records[:8] },
		"all":         func(m *memory, _ store.ID) { m.records = nil },
		"swapped":     func(m *memory, _ store.ID) { swap(m.records, 4, 5) },
		"head set back": func(m *memory, chain store.ID) {
			m.records = m.records[:8]
			last := m.records[7].Link
			m.mark(chain, func(c *store.AuditChain) { c.Head.Seq, c.Head.MAC = last.Seq, last.MAC })
		},
		"head set back and signed without a secret": func(m *memory, chain store.ID) {
			m.records = m.records[:8]
			last := m.records[7].Link
			before := store.AuditMark{Seq: last.Seq, MAC: last.MAC}
			m.mark(chain, func(c *store.AuditChain) { c.Head = audit.NewSealer(nil).Seal(chain, before, nil) })
		},
		"anchor moved and signed without a secret": func(m *memory, chain store.ID) {
			link := m.records[2].Link
			m.records = m.records[3:]
			m.mark(chain, func(c *store.AuditChain) { c.Anchor = audit.NewSealer(nil).Anchor(link) })
		},
		"the last of them, and more behind": func(m *memory, chain store.ID) {
			m.records = append(m.records[:9:9], m.records[9])
			m.records[9].Link.Seq = 11
		},
		"head signed as an anchor": func(m *memory, chain store.ID) {
			m.records = m.records[:8]
			m.mark(chain, func(c *store.AuditChain) { c.Head = audit.NewSealer(secret).Anchor(m.records[7].Link) })
		},
		"anchor moved": func(m *memory, chain store.ID) {
			link := m.records[2].Link
			m.records = m.records[3:]
			m.mark(chain, func(c *store.AuditChain) { c.Anchor = store.AuditMark{Seq: link.Seq, MAC: link.MAC} })
		},
		"rewritten without a secret": func(m *memory, chain store.ID) {
			m.mark(chain, func(c *store.AuditChain) { c.Head = audit.NewSealer(nil).Seal(chain, store.AuditMark{}, m.records) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, chain := filled(t, secret)
			forge(m, chain)
			if report := verify(t, m, secret); report.OK(true) {
				t.Errorf("it does not show: %+v", report)
			}
		})
	}
}

func swap(records []store.AuditRecord, i, j int) {
	records[i].Link, records[j].Link = records[j].Link, records[i].Link
	records[i], records[j] = records[j], records[i]
}

func (m *memory) mark(chain store.ID, change func(*store.AuditChain)) {
	c := m.chains[chain]
	change(&c)
	m.chains[chain] = c
}

func TestAPrunedLogVerifies(t *testing.T) {
	t.Parallel()
	m, chain := filled(t, secret)
	link := m.records[3].Link
	m.records = m.records[4:]
	m.mark(chain, func(c *store.AuditChain) { c.Anchor = audit.NewSealer(secret).Anchor(link) })
	if report := verify(t, m, secret); !report.OK(true) || report.Chains[0].First != 5 {
		t.Errorf("report = %+v", report)
	}
}

func TestAChainWithoutASecretSaysSo(t *testing.T) {
	t.Parallel()
	m, _ := filled(t, nil)
	if report := verify(t, m); !report.OK(false) || report.Chains[0].Unkeyed != 10 {
		t.Errorf("report = %+v", report)
	}
	if report := verify(t, m, secret); report.OK(true) {
		t.Error("records without a secret pass for others")
	}
	m.records[4].Key.Label = "x"
	report := verify(t, m)
	if report.OK(false) || !strings.Contains(strings.Join(report.Chains[0].Problems, "\n"), "record 5 ") {
		t.Errorf("an accident does not show: %+v", report)
	}
}

// pruning is a log from which the oldest records are removed while it is read.
type pruning struct {
	*memory
	chain store.ID
	once  bool
}

func (p *pruning) AuditLinks(ctx context.Context, chain store.ID, seq int64, limit int) ([]store.AuditRecord, error) {
	if !p.once {
		p.once = true
		link := p.records[5].Link
		p.records = p.records[6:]
		p.mark(p.chain, func(c *store.AuditChain) { c.Anchor = audit.NewSealer(secret).Anchor(link) })
	}
	return p.memory.AuditLinks(ctx, chain, seq, limit)
}

func TestALogThatIsPrunedMeanwhileVerifies(t *testing.T) {
	t.Parallel()
	m, chain := filled(t, secret)
	report, err := audit.Verify(t.Context(), &pruning{memory: m, chain: chain}, [][]byte{secret})
	if err != nil || !report.OK(true) || report.Chains[0].First != 7 || report.Chains[0].Last != 10 {
		t.Errorf("report = %+v, %v", report, err)
	}
}
