//go:build !unix

package sqlite

import (
	"io/fs"
	"log/slog"
)

func checkOwner(string, fs.FileInfo) error { return nil }

func restrict(string, fs.FileInfo, *slog.Logger) error { return nil }
