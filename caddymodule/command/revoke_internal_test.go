package command

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// once is a store that says of a key once whether it is there.
type once struct {
	store.Store
	asked bool
}

func (o *once) Key(ctx context.Context, id store.ID) (*store.Key, error) {
	if o.asked {
		return nil, errors.New("asked twice")
	}
	o.asked = true
	return o.Store.Key(ctx, id)
}

// TestAnIDThatIsNamedTwiceIsRevokedOnce, in whatever case, and is waited for.
func TestAnIDThatIsNamedTwiceIsRevokedOnce(t *testing.T) {
	t.Parallel()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	tt := &target{store: s, now: time.Now, params: phc.Default()}
	service := tt.service()
	if service.Minter, err = tt.minter(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, _, err := service.Create(t.Context(), operator(), admin.NewKey{Label: "twice"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := revokeCommand()
	cmd.SetContext(t.Context())
	cmd.SetErr(&said)
	if err := cmd.Flags().Set("yes", "true"); err != nil {
		t.Fatal(err)
	}
	revoke, err := readRevoke(cmd, []string{key.ID.String(), strings.ToUpper(key.ID.String())})
	if err != nil {
		t.Fatal(err)
	}
	tt.store = &once{Store: s}
	if err := revoke(cmd, tt); err != nil || strings.Count(said.String(), "Revoked") != 1 {
		t.Errorf("it said, with %v, %q", err, &said)
	}
}
