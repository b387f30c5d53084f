package store

import (
	"fmt"
	"log/slog"
)

// redacted stands wherever a [Hash] would have been printed.
const redacted = "[redacted]"

// Hash is a key's Argon2id hash as a PHC string. It prints as "[redacted]" by
// every road that fmt, log/slog and encoding/json know, so that a struct that
// holds one can be logged whole. A driver converts it with string(h) at the
// moment it is bound to a statement, and nowhere else.
type Hash string

// String redacts the hash.
func (Hash) String() string { return redacted }

// GoString redacts the hash under %#v.
func (Hash) GoString() string { return redacted }

// Format redacts the hash under every verb, %s and %x included.
func (Hash) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText redacts the hash in JSON and other text encodings.
func (Hash) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue redacts the hash in structured logs.
func (Hash) LogValue() slog.Value { return slog.StringValue(redacted) }
