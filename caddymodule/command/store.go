package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// addStoreFlags adds the flags that name the store. --config and --adapter are those of `caddy
// run`, so an operator can copy the arguments of the server.
func addStoreFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "Configuration file that names the store (default: Caddyfile in this folder)")
	cmd.Flags().StringP("adapter", "a", "", "Name of the configuration adapter")
	cmd.Flags().String("store", "", "The store itself, in place of a configuration: sqlite:///file.db or postgres://…")
	cmd.Flags().String("schema", "", "The schema of the PostgreSQL store that --store names, if it has one of its own")
}

// target is the store that a command works on, and what the configuration says about it. A
// target belongs to one call. Its store is open until the action has returned.
type target struct {
	store  store.Store
	app    *app.App   // the configuration, not running; nil with --store
	params phc.Params // of new hashes
	now    func() time.Time
	raw    []byte // the whole configuration, as JSON
	// adminEndpoint is the address of Caddy's admin endpoint in the configuration. It is
	// empty if there is none.
	adminEndpoint string
}

// secrets resolves the secrets of the configuration. Without a configuration there are none. The
// error may only mean that this user lacks the environment or the files of the server, so
// commands that can do without secrets ignore it. The first secret is the one in use. The others
// are only accepted.
func (t *target) secrets() ([][]byte, error) {
	if t.app == nil {
		return nil, nil
	}
	return resolve.Secrets(caddy.NewReplacer(), t.app.Secret)
}

// action does the work of a command on an open store. It must not close the store.
type action func(cmd *cobra.Command, t *target) error

// onStore makes the cobra function of a command. Read reads the flags and arguments and returns
// the action. The store is opened, created and migrated only if the call is well formed. The
// command fails too if the store cannot be closed.
func onStore(read func(cmd *cobra.Command, args []string) (action, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		do, err := read(cmd, args)
		if err != nil {
			return err
		}
		t, err := openTarget(cmd)
		if err != nil {
			return err
		}
		return errors.Join(do(cmd, t), t.store.Close())
	}
}

// creators are the commands that may create a store. For every other command a store that does
// not exist is an error, since the user meant another one. A new store would be empty: a list
// would say that there are no keys, and a revocation by flags would succeed and end none.
var creators = []string{"create", "migrate"}

// openTarget opens the store that the flags name, and brings its schema up to date. Only the
// creators may create a store, and they create a SQLite file only if --store names it: the file
// of a configuration is made by the server, as the user who must own it. If openTarget fails,
// the target still has what was read of the configuration.
func openTarget(cmd *cobra.Command) (*target, error) {
	t := &target{params: phc.Default(), now: time.Now} //nolint:forbidigo // the real clock is wired here
	mayCreate := slices.Contains(creators, cmd.Name())
	location, err := t.locate(cmd)
	if err == nil {
		t.store, err = openMigrated(cmd, location, mayCreate && cmd.Flags().Changed("store"), mayCreate)
	}
	return t, err
}

// locate finds the store that the flags name. It connects to no database, and makes no file.
// Flag --store wins: the configuration is then not read, and --config has no effect.
func (t *target) locate(cmd *cobra.Command) (open.Location, error) {
	switch {
	// An operator may name the store of a server whose configuration is not at hand, or a
	// restored copy.
	case cmd.Flags().Changed("store"):
		return locateFlags(cmd, "store", "schema")
	case cmd.Flags().Changed("schema"):
		return open.Location{}, Usagef("--schema goes with --store: a configuration names the schema itself")
	}
	return t.locateConfigured(cmd)
}

// openMigrated opens a store and brings its schema up to date. Unless mayCreate is true, the
// database must have the schema of system keys already. MayCreateFile concerns SQLite alone. The
// caller closes the store; after an error it is closed.
//
// A server does the same migrations when it starts. A command may be the first program of a new
// version that works on the store, so it does them too.
func openMigrated(cmd *cobra.Command, location open.Location, mayCreateFile, mayCreate bool) (store.Store, error) {
	ctx := cmd.Context()
	s, err := location.Open(ctx, openOptions(cmd, mayCreateFile))
	if err != nil {
		return nil, missing(location, err)
	}
	if !mayCreate {
		// Also a role that only lists keys may call this.
		if _, err := s.Granted(ctx, 0); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("there is no store of system keys in this database, or it cannot be read: %w", err)
		}
	}
	// The check stands before this: Migrate would put our tables into any database that it is
	// given.
	if err := s.Migrate(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("migrate store: %w", err)
	}
	return s, nil
}

// missing says what to do if there is no database. It returns other errors of opening a store as
// they are, which begin with "open store". The path in the advice is absolute: --store takes no
// other.
func missing(location open.Location, err error) error {
	if !errors.Is(err, sqlite.ErrNoDatabase) {
		return err
	}
	file, _ := filepath.Abs(location.Name) // fails if there is no working folder
	return fmt.Errorf("there is no database at %q yet: start the server, which makes it, "+
		"or as its user run caddy system-keys migrate --store sqlite://%s", file, file)
}

// openOptions refuses a SQLite file of another user. If a file does not exist, it is created
// only if mayCreateFile is true. Standard error shows warnings, and for migrate how far it is.
//
// The -wal and -shm files that SQLite makes may then belong to this user, and the server could
// not open its own store any more.
func openOptions(cmd *cobra.Command, mayCreateFile bool) open.Options {
	level := slog.LevelWarn
	if cmd.Name() == "migrate" {
		level = slog.LevelInfo // how far it is
	}
	logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{
		Level: level,
		// Whoever types a command knows the time. A log line of it needs none.
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	return open.Options{MustExist: !mayCreateFile, SameOwner: true, Logger: logger}
}

// locateFlags reads the flag that names a store, and the one that names its schema. Both are
// parameters, since migrate has two pairs of them. Each error is wrong usage.
func locateFlags(cmd *cobra.Command, storeFlag, schemaFlag string) (open.Location, error) {
	dsn, _ := cmd.Flags().GetString(storeFlag)
	location, err := locateDSN("--"+storeFlag, dsn)
	if err != nil || !cmd.Flags().Changed(schemaFlag) {
		return location, err
	}
	if location.Driver != open.Postgres {
		return open.Location{}, Usagef("--%s: only a store in PostgreSQL has a schema", schemaFlag)
	}
	location.Schema, _ = cmd.Flags().GetString(schemaFlag)
	if err := location.Check(); err != nil {
		return open.Location{}, Usagef("--%s: %w", schemaFlag, err)
	}
	return location, nil
}

// locateDSN reads the value of a flag that names a store. The password is looked for before the
// placeholders are replaced: afterwards nobody could tell what was typed. Errors name the flag,
// as the user has to type it. They do not repeat the DSN, which may hold a password.
func locateDSN(flag, dsn string) (open.Location, error) {
	if err := refusePassword(flag, dsn); err != nil {
		return open.Location{}, err
	}
	dsn, err := resolve.Text(caddy.NewReplacer(), dsn)
	if err != nil {
		return open.Location{}, Usagef("%s: %w", flag, err)
	}
	location, err := open.DSN(dsn)
	if err != nil {
		return open.Location{}, Usagef("%s: %w", flag, err)
	}
	return location, nil
}

// anyPlaceholder matches placeholders. Their values are not on the command line.
var anyPlaceholder = regexp.MustCompile(`\{[^{}]*\}`)

// refusePassword refuses a password in a flag as the user has typed it. The value of a
// placeholder is not on the command line, so it may be a password. Arguments are in the list of
// processes, in the history of the shell, and often in the log of a CI job.
//
// A password stands in a URL before the @, or is the parameter password or sslpassword
// (PostgreSQL, libpq, "Parameter Key Words").
//
// It is strict where a text cannot be parsed. To refuse a good DSN costs the user another way to
// write it. To accept a bad one costs the password.
func refusePassword(flag, dsn string) error {
	refused := Usagef("%s: a password on the command line can be read by every user of this machine: "+
		"use PGPASSWORD, PGPASSFILE or %s '{env.DATABASE_URL}'", flag, flag)
	if strings.HasPrefix(dsn, "sqlite://") {
		return nil
	}
	// A placeholder has braces, which a URL may not have everywhere. So a word stands in for it.
	const harmless = "placeholder"
	typed := anyPlaceholder.ReplaceAllLiteralString(dsn, harmless)
	parsed, err := url.Parse(typed)
	if err != nil {
		if strings.Contains(typed, "@") || strings.Contains(typed, "password") {
			return refused // a DSN that cannot be parsed may still hold a password
		}
		return nil
	}
	// A password that is partly typed is refused too: the part is on the command line.
	if password, ok := parsed.User.Password(); ok && password != harmless {
		return refused
	}
	for name, values := range parsed.Query() {
		secret := strings.EqualFold(name, "password") || strings.EqualFold(name, "sslpassword")
		if secret && slices.ContainsFunc(values, func(v string) bool { return v != harmless }) {
			return refused
		}
	}
	return nil
}

// locateConfigured finds the store in the configuration. It resolves the placeholders of the
// store and of the admin endpoint, and not those of the secrets, which the user of a command may
// not be allowed to read.
//
// It fills in the target as far as it comes. After an error, status may still ask the server at
// the admin endpoint, and doctor may still check the rest of the settings.
//
// The configuration is read from its file, and not from a running server. So the command also
// works while no server runs, and the file must be the one that the server has.
func (t *target) locateConfigured(cmd *cobra.Command) (open.Location, error) {
	file, _ := cmd.Flags().GetString("config")
	adapter, _ := cmd.Flags().GetString("adapter")
	// Caddy logs at INFO how it reads a configuration. Its default log is set by a
	// configuration alone (logging.go, setupNewDefault).
	quiet := &caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}},
	}
	if err := caddy.Validate(quiet); err != nil {
		return open.Location{}, err
	}
	raw, used, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return open.Location{}, fmt.Errorf("read configuration: %w", err)
	}
	// LoadConfig accepts a Caddyfile that is not there, as `caddy run` does.
	if used == "" && len(raw) == 0 {
		return open.Location{}, Usagef("there is no Caddyfile in this folder: name one with --config, or the store with --store")
	}
	// Only these parts of the configuration are read. Modules of other plugins are not loaded.
	var config struct {
		Admin caddy.AdminConfig `json:"admin"`
		Apps  struct {
			SystemKeys json.RawMessage `json:"system_keys"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return open.Location{}, fmt.Errorf("read configuration: %w", err)
	}
	// Caddy listens at its default address if the configuration names none.
	if !config.Admin.Disabled {
		t.adminEndpoint = caddy.NewReplacer().ReplaceAll(cmp.Or(config.Admin.Listen, caddy.DefaultAdminListen), "")
	}
	if len(config.Apps.SystemKeys) == 0 {
		return open.Location{}, errors.New("the configuration has no system_keys: add that global option, or name the store with --store")
	}
	app, err := app.Read(config.Apps.SystemKeys)
	if err != nil {
		return open.Location{}, fmt.Errorf("read configuration: system_keys: %w", err)
	}
	// A key that is created here must cost the servers as much as one of theirs.
	if t.params, err = app.Argon2id.Params(); err != nil {
		return open.Location{}, err
	}
	// From here on the settings are known, even if the store is not found.
	t.app, t.raw = app, raw
	return app.Store.Locate(caddy.NewReplacer())
}

// minter reads the mint key. Only what mints, adopts or finds keys needs it, and the role of
// another command need not have the right to read it.
func (t *target) minter(ctx context.Context) (*token.Minter, error) {
	mintKey, err := t.store.MintKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("read mint key: %w", err)
	}
	return token.New(mintKey), nil
}

// service makes the service behind the admin plane, for the command line. It has no minter:
// create and rotate set it. It has no Forget and no Asked, since this process lets no requests
// through.
//
// Hashing gets the memory of one hash, so that a command takes no more beside a running server.
// The revoker would log only that a dead member cannot be removed. The wait names that member
// anyway, so its log is discarded.
func (t *target) service() *admin.Service {
	service := &admin.Service{
		Store:   t.store,
		Hash:    hashing.NewSlots(t.params, int64(t.params.Memory)<<10).Hash,
		Revoker: coherence.NewRevoker(t.store, t.now, slog.New(slog.DiscardHandler)),
		Now:     t.now,
	}
	// Without a configuration or its secrets, a server seals the records later.
	if secrets, err := t.secrets(); err == nil && t.app != nil {
		service.Sealer = audit.NewSealer(append(secrets, nil)[0]) // nil if there are no secrets
	}
	return service
}

// operator is the command line as an actor. Its label is the user of the system, and who became
// that user by sudo. Anybody may set SUDO_USER: it is a help, no proof. There could be none:
// whoever can write to the store can write any name into it.
func operator() admin.Actor {
	actor := admin.CLI()
	if u, err := user.Current(); err == nil {
		actor.Label = u.Username
	} else {
		actor.Label = "user " + strconv.Itoa(os.Getuid()) // in a container without /etc/passwd
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" {
		actor.Label += ", by sudo from " + sudo
	}
	return actor
}
