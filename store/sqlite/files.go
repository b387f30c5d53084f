package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// files are the database, its write-ahead log and the index of that log. SQLite opens each
// name once and goes on with the open file, even if the name is given to another file. A
// commit can then end in a file that nobody will ever open again. So every transaction
// checks that the names still mean the open files.
//
// The check never opens a file: see [creating].
type files struct {
	// paths are the names in this order: the database, its log, and the index of the log.
	paths [3]string
	// opened are the files that had these names. Nil is a name that was not noted.
	opened [3]fs.FileInfo
	lost   atomic.Pointer[error] // the first error of check, which stays
}

// replacedFiles maps the path of each database whose files this process has lost to the
// error. SQLite shares its knowledge of a file within a process, so only another process can
// open such a path safely.
var replacedFiles sync.Map

// locateFiles returns the names. If path is a link, SQLite puts the log beside the target. The
// names of the log and of its index end in -wal and -shm (https://sqlite.org/walformat.html
// section 1).
func locateFiles(path string) *files {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		target = path // prepare has reported the error
	}
	return &files{paths: [3]string{path, target + "-wal", target + "-shm"}}
}

// restrict takes the rights of other users away from the files that exist. The log holds hashes
// as well as the database does.
func (f *files) restrict(logger *slog.Logger) error {
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && i == 0 && info.Mode()&0o007 != 0 {
			err = f.checkKind()
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

// checkKind returns an error if the file is no database. A path may be mistyped, and a file of
// another kind keeps its mode. An empty file is a new database.
//
// To close a file takes away all locks of this process on it, those of SQLite too
// (https://sqlite.org/howtocorrupt.html). So a database that may be in use is not read: it has an
// index of its log.
func (f *files) checkKind() error {
	if _, err := os.Stat(f.paths[2]); err == nil {
		return nil
	}
	file, err := os.Open(f.paths[0])
	if err != nil {
		return err
	}
	const magic = "SQLite format 3\x00" // https://sqlite.org/fileformat.html
	begin := make([]byte, len(magic))
	n, err := io.ReadFull(file, begin)
	if n > 0 && string(begin[:n]) != magic {
		err = fmt.Errorf("%q is not a SQLite database", f.paths[0])
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, file.Close())
}

// noteDatabase notes which file the database is. Call it before the database is opened.
func (f *files) noteDatabase() (err error) {
	f.opened[0], err = os.Stat(f.paths[0])
	return err
}

// noteLog notes the other two files. SQLite creates them, and they exist as long as a connection
// is open. A file may have been replaced between the two notes, so they are compared at once.
func (f *files) noteLog() (err error) {
	for i := range f.paths[1:] {
		if f.opened[i+1], err = os.Stat(f.paths[i+1]); err != nil {
			return err
		}
	}
	return f.compare()
}

// check returns [store.ErrReplaced] if a name does not mean the open file any more. Once it has
// returned that error, it always does. Any number of goroutines may call it. An error of the
// file system is returned and not kept, since it may pass.
func (f *files) check() error {
	if lost := f.lost.Load(); lost != nil {
		return *lost
	}
	err := f.compare()
	if errors.Is(err, store.ErrReplaced) {
		f.lost.Store(&err)
		replacedFiles.Store(f.paths[0], err)
	}
	return err
}

// compare looks at each name once. Stat follows links, as SQLite has done.
func (f *files) compare() error {
	for i, path := range f.paths {
		if f.opened[i] == nil { // see [Options.ReadOnly]
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err == nil && os.SameFile(info, f.opened[i]):
		// ENOTDIR: a folder of the path is a file by now.
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: %q is not the file any more that this process has open, it was replaced, moved or deleted: "+
				"put the right database in place and restart", store.ErrReplaced, path)
		default:
			return err // os names the path
		}
	}
	return nil
}
