package ui

import "github.com/lumio-vision/caddy-system-keys/store"

// The choices of the form that rotates a key, and those that are chosen at first. Each has a
// text below "wait.".
const (
	DefaultDeadline = "7d"
	DefaultGrace    = "1h"
)

// Rotate asks how a key is to be rotated.
type Rotate struct {
	Key   Key
	Nonce string
	// Deadline, Grace and Now are what the admin has chosen.
	Deadline, Grace string
	Now             bool
	// Error is the key of a text below "rotate.error.", or empty.
	Error string
}

func (Rotate) template() string { return "rotate" }
func (Rotate) title() string    { return "title.rotate" }

// Deadlines are after which times the old key may end in any case.
func (Rotate) Deadlines() []string { return []string{"1d", "7d", "30d", "90d"} }

// Graces are after which times since the first use of the new key the old one may end.
func (Rotate) Graces() []string { return []string{"5m", "1h", "1d", "7d"} }

// Succeeded reports whether the key has a successor that is in use, so that it cannot be
// rotated again.
func (k Key) Succeeded() bool {
	return k.Successor != nil && (!k.Successor.LastUsedAt.IsZero() || k.Successor.ReplacedBy != (store.ID{}))
}

// Short is the end of an id. The ids of keys that were made at about the same time begin
// alike.
func (Key) Short(id store.ID) string { return "…" + id.String()[24:] }
