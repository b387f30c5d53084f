//go:build unix

package sqlite

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a file that belongs to another user than this process's.
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
