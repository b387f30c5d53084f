//go:build unix

package sqlite

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
)

// checkOwner refuses a file that does not belong to the user of this process. The effective user
// counts, since the kernel gives that one to the files that SQLite creates.
func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %q cannot be told", path)
	}
	if uid := os.Geteuid(); stat.Uid != uint32(uid) {
		return fmt.Errorf("%q belongs to user %d and this is user %d, who would leave files beside it "+
			"that its owner cannot open: run this as user %d", path, stat.Uid, uid, stat.Uid)
	}
	return nil
}

// restrict takes the rights of everybody else away from a file of this user. If the file
// belongs to another user and everybody can use it, restrict refuses it. Rights of the
// group are only logged, since Kubernetes gives a volume to a group (fsGroup).
func restrict(path string, info fs.FileInfo, logger *slog.Logger) error {
	mode := fmt.Sprintf("%04o", info.Mode().Perm())
	if info.Mode()&0o070 != 0 {
		logger.Info("the group of the store's file can use it too", slog.String("file", path), slog.String("mode", mode))
	}
	if info.Mode()&0o007 == 0 {
		return nil
	}
	// Only the owner of a file may change its mode, and root. For root too it is another user's file.
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("every user of this machine can use %q (mode %s), which is not this user's: run chmod o-rwx on it", path, mode)
	}
	// The mode is the old one without the rights of everybody: a mode of the owner's choice stays.
	if err := os.Chmod(path, info.Mode()&^0o007); err != nil {
		return fmt.Errorf("every user of this machine can use %q (mode %s): %w", path, mode, err)
	}
	// Some file systems report success and change nothing.
	if after, err := os.Stat(path); err != nil || after.Mode()&0o007 != 0 {
		return fmt.Errorf("every user of this machine can use %q (mode %s), and its file system does not let that be changed", path, mode)
	}
	logger.Warn("every user of this machine could use the store's file: that was taken away",
		slog.String("file", path), slog.String("mode_before", mode))
	return nil
}
