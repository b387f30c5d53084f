package command_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestListShowsWhatNobodyAskedFor names the permissions that a key holds for nothing. It
// says nothing of a key of which none was asked.
func TestListShowsWhatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.db")
	made := map[string]store.ID{}
	for _, label := range []string{"wide", "narrow", "silent"} {
		var out bytes.Buffer
		if err := systemKeys(t, &out, nil, "create", "--store", "sqlite://"+file, "--label", label, "--permission", "a:read", "--permission", "b:read", "--json"); err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(out.String(), `"id":"`)
		var err error
		if made[label], err = store.ParseID(id[:36]); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	err = s.RecordUse(t.Context(), []store.Use{
		{ID: made["wide"], Asked: []store.AskedPermission{{Permission: "b:read", LastAt: at}, {Permission: "x:y", LastAt: at}}},
		{ID: made["narrow"], Asked: []store.AskedPermission{{Permission: "a:read", LastAt: at}, {Permission: "b:read", LastAt: at}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := systemKeys(t, &out, nil, "list", "--store", "sqlite://"+file, "--unused-permissions"); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.Contains(text, "wide") || !strings.Contains(text, " a:read ") || strings.Contains(text, "b:read") ||
		strings.Contains(text, "narrow") || strings.Contains(text, "silent") || !strings.Contains(text, "1 key(s)") {
		t.Errorf("got\n%s", text)
	}
}
