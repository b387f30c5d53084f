package caddymodule

import (
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// Totals are figures of all engines of this process.
type Totals struct {
	// Engines counts the live ones, References the configurations that hold one.
	Engines, References int
	verify.Stats
}

// Stats adds the figures of all engines up.
func Stats() Totals {
	live := make(map[any]*engine.Engine)
	engines.Range(func(key, value any) bool {
		live[key] = value.(pooled).engine
		return true
	})
	totals := Totals{Engines: len(live)}
	for key, e := range live {
		if n, ok := engines.References(key); ok {
			totals.References += n
		}
		if l, err := e.Live(); err == nil {
			s := l.Verifier.Stats()
			totals.RowReads += s.RowReads
			totals.Argon2Runs += s.Argon2Runs
			totals.Entries += s.Entries
			totals.SearchRuns += s.SearchRuns
		}
	}
	return totals
}
