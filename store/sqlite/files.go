package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// files are the database, its log and the index of the log. SQLite opens them by
// their names once and goes on with what it has open, whatever becomes of the
// names: a commit can end in a file that nobody will ever open again. So the
// names are looked at again and again.
//
// They are never opened for that: see [creating].
type files struct {
	paths  [3]string
	opened [3]fs.FileInfo
	lost   atomic.Pointer[error] // what check has found; it stays
}

// replaced has the error of each path under which this process has lost its
// files. SQLite shares what it knows of a file within a process, so that only
// another process can open it safely.
var replaced sync.Map

// locate finds the names. SQLite puts the log beside the file that a link leads to.
func locate(path string) *files {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		target = path // prepare has said what is wrong
	}
	return &files{paths: [3]string{path, target + "-wal", target + "-shm"}}
}

// restrict takes the rights of other users from the files that are there.
func (f *files) restrict(logger *slog.Logger) error {
	for _, path := range f.paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = restrict(path, info, logger)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// before notes what the name of the database means before it is opened.
func (f *files) before() (err error) {
	f.opened[0], err = os.Stat(f.paths[0])
	return err
}

// after notes the other two, which SQLite makes. They exist as long as a
// connection is open.
func (f *files) after() (err error) {
	for i := range f.paths[1:] {
		if f.opened[i+1], err = os.Stat(f.paths[i+1]); err != nil {
			return err
		}
	}
	return f.compare()
}

// check returns [store.ErrReplaced] from the moment on that a name does not mean
// the file that is open.
func (f *files) check() error {
	if lost := f.lost.Load(); lost != nil {
		return *lost
	}
	err := f.compare()
	if errors.Is(err, store.ErrReplaced) {
		f.lost.Store(&err)
		replaced.Store(f.paths[0], err)
	}
	return err
}

func (f *files) compare() error {
	for i, path := range f.paths {
		info, err := os.Stat(path)
		switch {
		case err == nil && os.SameFile(info, f.opened[i]):
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: %q is not the file any more that this process has open, it was replaced, moved or deleted: "+
				"put the right database in place and restart", store.ErrReplaced, path)
		default:
			return err // os names the path
		}
	}
	return nil
}
