package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// backupCommand is for SQLite alone. A copy of the file by cp would lack what is in the
// write-ahead log, and could be torn. PostgreSQL has tools of its own.
//
// Standard output stays empty, as the result is the file. After an interruption a file with the
// suffix .part may be left beside it, which nobody takes for a backup.
func backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copies a SQLite store to a file, while the server runs",
		Long: `
Copies the store as it is at one moment, with what is still in its write-ahead
log. The file must not exist yet. Only the user who runs this can read it. It is
checked before it gets its name: after an error there is no file.

The copy has hashes of the keys and the mint key, and no key in clear. A schema
that is not up to date stays as it is.

Back up a store in PostgreSQL with pg_dump.`,
		Example: `  caddy system-keys backup /backup/system-keys-$(date +%F).db`,
		Args:    cobra.ExactArgs(1),
		RunE:    backUp,
	}
}

// backUp opens the store without migrating it. A backup before an upgrade is to be the old one.
//
// The message goes to standard error, as for every command without a result.
func backUp(cmd *cobra.Command, args []string) error {
	if args[0] == "" {
		return Usagef("FILE must not be empty (is a variable not set?)")
	}
	file, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	// No target is opened: that would migrate the store.
	location, err := new(target).locate(cmd)
	if err != nil {
		return err
	}
	if location.Driver != open.SQLite {
		return Usagef("only a store in SQLite is backed up by this command: use pg_dump --format=custom, as docs/operations/backup.md says")
	}
	// Lstat also finds a link that leads nowhere. The store checks once more when the copy gets
	// its name.
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s exists, and is not overwritten: name another file", file)
		}
		return err
	}
	options := openOptions(cmd, false)
	// Not for reading only: the copy is made by the connection that writes, and has what is in
	// the write-ahead log. A running server is not disturbed.
	s, err := sqlite.Open(cmd.Context(), location.Name, sqlite.Options{MustExist: true, SameOwner: true, Logger: options.Logger})
	if err != nil {
		return missing(location, err)
	}
	defer func() { _ = s.Close() }() // the copy is whole, or there is another error
	if err := s.Backup(cmd.Context(), file); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Backed up to %s, and checked.\n", file)
	return nil
}
