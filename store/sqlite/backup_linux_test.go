package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestABackupThatIsNotSyncedLeavesNoFile: the folder takes files and cannot be opened, so its
// name for the copy is not safe.
func TestABackupThatIsNotSyncedLeavesNoFile(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "backups")
	if err := os.Mkdir(folder, 0o300); err != nil {
		t.Fatal(err)
	}
	// Root opens any folder. This thread may not, and ends with the test.
	runtime.LockOSThread()
	var none [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), filepath.Join(folder, "copy.db")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error = %v", err)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
