package command

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// path searches what an argument names. Unlike a link in a folder, a link that is named is
// followed: somebody has asked for it.
//
// A file named "-" is ./- on the command line, as everywhere.
func (s *scan) path(name string) {
	if name == standardInput {
		s.stream("stdin", s.cmd.InOrStdin())
		return
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		s.fail(err)
	case info.IsDir():
		s.folder(name)
	default: // a pipe too, such as <(git log -p)
		s.file(name)
	}
}

// folder searches all regular files in a folder. Links in it are not followed: what they lead to
// is in the folder too, or nobody has asked for it. That also excludes loops. Pipes, sockets and
// devices are left out, as a read of them may never end.
func (s *scan) folder(name string) {
	// With a separator at its end, a link that was named is followed.
	root := strings.TrimSuffix(name, string(filepath.Separator)) + string(filepath.Separator)
	// The function returns no error but SkipDir, so WalkDir returns none.
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			s.fail(err)
		case entry.IsDir() && path != root && isGitObjects(path):
			fmt.Fprintf(s.cmd.ErrOrStderr(), "%s is not read: git log -p --all | caddy system-keys scan -\n", shown(path))
			return fs.SkipDir
		case entry.Type().IsRegular():
			s.file(path)
		}
		return nil
	})
}

// isGitObjects reports whether a folder has the objects of a git repository. They are
// compressed, so a search would find nothing there and seem to have looked. A bare repository
// ends in .git too, by custom.
func isGitObjects(path string) bool {
	return filepath.Base(path) == "objects" && strings.HasSuffix(filepath.Base(filepath.Dir(path)), ".git")
}

// file searches a file, or a pipe that was named.
func (s *scan) file(name string) {
	file, err := os.Open(name)
	if err != nil {
		s.fail(err)
		return
	}
	defer func() { _ = file.Close() }() // it was only read
	s.stream(name, file)
}

// stream searches a stream to its end, under the name that is shown. What was found before an
// error of reading counts.
func (s *scan) stream(name string, stream io.Reader) {
	s.searched++
	// The name is printed with each key that is found, so it is cleaned once.
	file := shown(name)
	if err := s.minter.Scan(stream, func(line int, id [16]byte) { s.found(file, line, id) }); err != nil {
		s.fail(err)
	}
}
