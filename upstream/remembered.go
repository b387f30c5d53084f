package upstream

import (
	"sync"
	"time"
)

const (
	// maxRemembered bounds the assertions that a verifier remembers.
	maxRemembered = 4096
	// maxRememberedToken bounds each of them, in bytes.
	maxRememberedToken = 4 << 10
)

// remembered keeps assertions that were verified and are for no request in particular.
// The proxy sends the same one for half of its life, and a signature costs most of its
// verification. An assertion is found by all of its bytes. The random seed of a map keeps
// the time of that from saying how many of them are right.
type remembered struct {
	mu           sync.Mutex
	newer, older map[string]*claims
	turned       time.Time // when the newer ones became the older ones
}

// find returns what an assertion says that was added. It may have expired since.
func (m *remembered) find(text string) (c *claims, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, known = m.newer[text]; !known {
		c, known = m.older[text]
	}
	return c, known
}

// add remembers a valid assertion for as long as it can be valid. It drops older ones when
// all of them have expired, or when there are too many.
func (m *remembered) add(text string, c *claims, now time.Time, leeway time.Duration) {
	if len(text) > maxRememberedToken {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The proxy's clock may be ahead by the leeway, and an assertion may be late by it.
	if len(m.newer) >= maxRemembered/2 || now.Sub(m.turned) > maxLife+2*leeway {
		m.older, m.newer, m.turned = m.newer, make(map[string]*claims), now
	}
	m.newer[text] = c
}
