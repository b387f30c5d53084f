package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// busyTimeout is how long a statement waits for another process's lock. Writers of this
	// process wait for each other in database/sql before that. For as long, the switch to
	// write-ahead logging is tried again.
	busyTimeout = 5 * time.Second
	// maxReaders bounds the connections that read. Each has a page cache of
	// 2 MiB (SQLite's default).
	maxReaders = 4
)

// Options change how [Open] opens the file. The zero value creates the file if
// need be, whoever owns it.
type Options struct {
	// MustExist refuses to create the file.
	MustExist bool
	// SameOwner refuses a file of another user. The -wal and -shm files that SQLite makes may
	// belong to this user, and the owner of the file could not open them. SameOwner has no
	// effect on systems without user ids.
	SameOwner bool
	// ReadOnly changes nothing: neither the rights of the files, nor whether the database has
	// a write-ahead log. Writes to the store fail. The file must exist.
	ReadOnly bool
	// Now is the store's clock, time.Now by default.
	Now func() time.Time
	// Logger logs that a file was created, and that other users lost their rights to it.
	// Nil logs nothing.
	Logger *slog.Logger
}

// ErrNoDatabase means that there is no file, and that the options forbid to create one.
var ErrNoDatabase = errors.New("there is no database")

// creating is held while a file is created. If a process closes any descriptor of a file,
// POSIX drops all locks that the process has on that file, also those of SQLite
// (https://sqlite.org/howtocorrupt.html section 2.2). So the goroutine that creates the
// file must close it before another goroutine of this process opens it.
var creating sync.Mutex

// Open opens the database in the file at path. If there is no file, Open creates it,
// readable by this user alone. No character of the path has a special meaning. Every error
// names the path. Open does not touch the schema: call [Store.Migrate] next.
//
// If the file belongs to this user, other users lose their rights to it. If it belongs to
// another user and everybody can use it, it is refused.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("open store %q: not the path of a file", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if opts.Now == nil {
		opts.Now = time.Now //nolint:forbidigo // the default clock
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := open(ctx, path, opts)
	if errors.Is(err, store.ErrReplaced) {
		// The file was replaced while it was opened. Or it is in a lower layer of an
		// overlay, where the first opening for writing replaces a file by its copy.
		s, err = open(ctx, path, opts)
	}
	return s, err
}

// open is one attempt of [Open], with an absolute path and options without nil. After an error
// no connection stays open.
func open(ctx context.Context, path string, opts Options) (*Store, error) {
	// No connection of this process may open that path again.
	if err, lost := replacedFiles.Load(path); lost {
		return nil, fmt.Errorf("open store: %w", err.(error))
	}
	if err := prepare(path, opts); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{path: path, now: opts.Now, files: locateFiles(path), calls: observe.OfStore("sqlite", opts.Now)}
	var err error
	if !opts.ReadOnly {
		err = s.files.restrict(opts.Logger)
	}
	// noteDatabase comes before the first connection: if the file is replaced in between, a check
	// finds that the name means another one.
	if err = errors.Join(err, s.files.noteDatabase()); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.close = sync.OnceValue(s.closeAll)
	// The driver applies pragmas to every new connection, busy_timeout first. FULL syncs the log
	// at each commit (https://sqlite.org/pragma.html#pragma_synchronous). With NORMAL, commits
	// that were reported could be lost when the power fails.
	writer := url.Values{"_pragma": {"synchronous(FULL)"}, "_txlock": {"immediate"}}
	if opts.ReadOnly {
		writer.Add("_pragma", "query_only(1)")
	}
	if s.writer, err = connect(path, writer, 1); err != nil {
		return nil, fmt.Errorf("open store %q: %w", path, err)
	}
	reader := url.Values{"_pragma": {"query_only(1)"}}
	if s.readers, err = connect(path, reader, maxReaders); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %q: %w", path, err), s.writer.Close())
	}
	if !opts.ReadOnly {
		err = s.useWAL(ctx)
	}
	if err == nil {
		err = s.touch(ctx)
	}
	// The log and its index exist only after a connection has used them, so they are noted last.
	if err == nil && !opts.ReadOnly {
		err = s.files.noteLog()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", s.explain(ctx, err)), s.readers.Close(), s.writer.Close())
	}
	return s, nil
}

// prepare checks the file. If there is none, it creates the file, unless the options forbid
// that. The errors are [ErrNoDatabase], one about what is no regular file, and those of
// checkOwner and of the file system.
func prepare(path string, opts Options) error {
	creating.Lock()
	defer creating.Unlock()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (opts.MustExist || opts.ReadOnly):
		return fmt.Errorf("%w at %q", ErrNoDatabase, path)
	case errors.Is(err, fs.ErrNotExist):
		return create(path, opts.Logger)
	case err != nil:
		return err // os names the path
	case info.IsDir():
		return fmt.Errorf("%q is a folder", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%q is not a regular file", path)
	case opts.SameOwner:
		return checkOwner(path, info)
	}
	return nil
}

// create makes an empty file, which SQLite takes for an empty database. The caller holds the
// lock creating.
func create(path string, logger *slog.Logger) error {
	// SQLite would create the file with the rights that the umask leaves. It gives the -wal and
	// -shm files the rights of the file. O_EXCL neither follows a link nor opens what another
	// process has made meanwhile.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil // another process was faster
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the folder of %q does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the folder of %q is not writable by this user: %w", path, err)
	case err != nil:
		return err
	}
	logger.Warn("a new store was made, which has no keys", slog.String("file", path))
	return f.Close()
}

// connect prepares a pool of connections. It opens none: the first call does.
//
// SQLite checks foreign keys only if a connection asks for it. One of ours removes the cuts of an
// entry of the change log with the entry (https://sqlite.org/foreignkeys.html section 2). Without
// trusted_schema, a schema that somebody has prepared can call no function but those known to be
// harmless (https://sqlite.org/pragma.html#pragma_trusted_schema). All connections stay open when
// idle, so that a call need not open one.
func connect(path string, params url.Values, conns int) (*sql.DB, error) {
	params.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	params.Add("_pragma", "foreign_keys(1)")
	params.Add("_pragma", "trusted_schema(0)")
	params.Set("mode", "rw") // prepare has created the file: SQLite must not
	// The path in the URI is escaped, so that the name may contain ?, # and %
	// (https://sqlite.org/uri.html).
	uri := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: params.Encode()}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// useWAL switches the file to write-ahead logging for good. The mode is kept in the file
// (https://sqlite.org/wal.html section 3.3), so other programs have it too. If the file is still
// busy after busyTimeout, the error is SQLITE_BUSY.
func (s *Store) useWAL(ctx context.Context) error {
	var mode string
	patience := time.NewTimer(busyTimeout)
	defer patience.Stop()
	for {
		// The switch fails at once if another connection writes, so this loop waits.
		err := s.writer.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		if err == nil {
			break
		}
		if !isBusy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience.C:
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
	// SQLite does not fail then: it answers with the mode that it has kept.
	if mode != "wal" {
		return fmt.Errorf("%q cannot be put in WAL mode: its file system has no shared memory", s.path)
	}
	return nil
}

// touch reads from the database, so that a file that is no database is found now. The first
// statement reads the header of the file and the schema.
func (s *Store) touch(ctx context.Context) error {
	var tables int
	return s.readers.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables)
}
