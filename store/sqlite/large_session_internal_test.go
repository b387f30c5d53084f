package sqlite

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestSessionsAreFoundByTheirIndexes looks at how the statements are carried out.
func TestSessionsAreFoundByTheirIndexes(t *testing.T) {
	t.Parallel()
	s := empty(t)
	var digest [32]byte
	for _, c := range []struct {
		name string
		s    statement
		want []string
	}{
		{"read", statement{selectSession, []any{digest[:], 1}}, []string{
			"SEARCH system_keys USING INDEX sqlite_autoindex_system_keys_1 (id=?)",
			"SEARCH session USING PRIMARY KEY (digest=?)",
		}},
		{"create", statement{insertSession, []any{digest[:], 1, store.ID{}.String()}}, []string{
			"SEARCH system_keys USING COVERING INDEX sqlite_autoindex_system_keys_1 (id=?)",
		}},
		{"prune", statement{pruneSessions[0], []any{1, 1000}}, []string{
			"SEARCH session USING PRIMARY KEY (digest=?)", "SEARCH session USING COVERING INDEX session_by_expiry (expires_at<?)",
		}},
		{"prune nonces", statement{pruneSessions[1], []any{1, 1000}}, []string{
			"SEARCH nonce USING PRIMARY KEY (digest=?)", "SEARCH nonce USING COVERING INDEX nonce_by_expiry (expires_at<?)",
		}},
		// As the trigger does it.
		{"end by key", statement{"DELETE FROM session WHERE key_id = ?", []any{store.ID{}.String()}}, []string{
			"SEARCH session USING INDEX session_by_key (key_id=?)",
		}},
		{"granted", statement{selectGranted, []any{1000, 500}}, []string{"SCAN system_keys USING INDEX system_keys_by_created_at"}},
	} {
		err := s.read(t.Context(), "explain", func(tx *sql.Tx) error {
			steps, err := plan(t.Context(), tx, c.s)
			for _, want := range c.want {
				if !slices.Contains(steps, want) {
					t.Errorf("%s: not by %q: %s", c.name, want, strings.Join(steps, "; "))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
