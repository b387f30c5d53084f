//go:build !unix

package sqlite

import (
	"io/fs"
	"log/slog"
)

// checkOwner accepts every file, since files have no user id here.
func checkOwner(string, fs.FileInfo) error { return nil }

// restrict does nothing. The mode of a file does not say who can use it here: on Windows that is
// in its access control list.
func restrict(string, fs.FileInfo, *slog.Logger) error { return nil }
