package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Backup copies the database, as it is at one moment, to a file that does not exist yet. Only
// this user can read the file. Readers go on meanwhile, and so do writers of other processes. A
// write by this Store waits, since the copy needs its one connection that writes. The copy is
// checked and synced to disk before it gets its name. After an error there is no file.
//
// The folder of the file must allow hard links. The error is [fs.ErrExist] if the file exists,
// and [store.ErrReplaced] if the database was replaced.
func (s *Store) Backup(ctx context.Context, file string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	if err := s.copyTo(ctx, file); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// copyTo copies the database to a file of another name first, which is left if the process is
// killed.
//
// VACUUM INTO copies what one reader sees, without the pages that are free
// (https://sqlite.org/lang_vacuum.html). It wants the target to be missing or empty.
func (s *Store) copyTo(ctx context.Context, file string) (err error) {
	part, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.part") // with mode 0600
	if err != nil {
		return err
	}
	named := false
	defer func() {
		if err = errors.Join(err, os.Remove(part.Name())); err != nil && named {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	// The writer's connection can VACUUM, and takes no lock that a writer of another process
	// waits for.
	_, err = s.writer.ExecContext(ctx, "VACUUM INTO ?", part.Name())
	if err = s.explain(ctx, err); err == nil {
		// SQLite does not sync the target, so that is done here, before it has its name.
		err = errors.Join(s.files.check(), s.checkCopy(ctx, part.Name()), part.Sync())
	}
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Link(part.Name(), file) // unlike Rename, it replaces nothing
		named = err == nil
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(file))
}

// syncFolder makes the name of a new file survive a crash of the machine. A name is in its
// folder, and to sync the file does not sync that.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// checkCopy returns an error if a file is not a sound store with the same mint key. Another mint
// key means that the copy was not made of this store.
func (s *Store) checkCopy(ctx context.Context, path string) (err error) {
	// ReadOnly leaves the copy as it is. Open would switch it to write-ahead logging.
	copied, err := Open(ctx, path, Options{ReadOnly: true, SameOwner: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	var verdict string
	if err := copied.readers.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil {
		return copied.explain(ctx, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the copy is damaged, and so may be the store: %s", verdict)
	}
	mine, err := s.MintKey(ctx)
	if err != nil {
		return err
	}
	theirs, err := copied.MintKey(ctx)
	if err == nil && theirs != mine {
		err = store.ErrReplaced
	}
	return err
}
