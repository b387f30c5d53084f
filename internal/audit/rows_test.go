package audit_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestEachRecordOfARowIsVerified writes records that a store keeps in one row, and changes
// one byte after the other of what is not a column.
func TestEachRecordOfARowIsVerified(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s, err := sqlite.Open(context.WithoutCancel(t.Context()), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := audit.Start(audit.Config{
		Log: s, Sealer: audit.NewSealer(secret), Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon }, Interval: time.Hour,
	})
	for i := range 5 {
		r := sample(0)
		r.At = noon.Add(time.Duration(i) * time.Millisecond)
		r.ID = [16]byte{}
		w.Add(r)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifies := func() bool {
		t.Helper()
		report, err := audit.Verify(t.Context(), s, [][]byte{secret})
		if err != nil || len(report.Chains) != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
		return report.OK(true)
	}
	if !verifies() {
		t.Error("what nobody has changed does not verify")
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var packed []byte
	if err := db.QueryRowContext(t.Context(), "SELECT earlier FROM audit_log").Scan(&packed); err != nil {
		t.Fatal(err)
	}
	for i := range packed {
		packed[i] ^= 1
		if _, err := db.ExecContext(t.Context(), "UPDATE audit_log SET earlier = ?", packed); err != nil {
			t.Fatal(err)
		}
		if verifies() {
			t.Errorf("byte %d of %d is not verified", i, len(packed))
		}
		packed[i] ^= 1
	}
}
