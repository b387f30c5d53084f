package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

func addStoreFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "Configuration file that names the store (default: Caddyfile in this folder)")
	cmd.Flags().StringP("adapter", "a", "", "Name of the configuration adapter")
	cmd.Flags().String("store", "", "The store itself, in place of a configuration: sqlite:///file.db or postgres://…")
}

// target is the store that a command works on.
type target struct {
	store  store.Store
	params phc.Params
	now    func() time.Time
	// secrets are those of the configuration; none without one.
	secrets func() ([][]byte, error)
	// configured says that there is one.
	configured bool
	// control is where its server has Caddy's admin endpoint; empty for nowhere.
	control string
}

// makers are the commands that may make a store. For every other command a store
// that is not there is an error: it was to look at another one.
var makers = []string{"create", "migrate"}

// openTarget opens the store that the flags name, and brings its schema up to
// date. Only [makers] make a store, and a SQLite file only where --store names it.
// Beside an error it returns what the configuration says.
func openTarget(cmd *cobra.Command) (*target, error) {
	dsn, _ := cmd.Flags().GetString("store")
	t := &target{
		params: phc.Default(), now: time.Now, //nolint:forbidigo // the real clock is wired here
		secrets: func() ([][]byte, error) { return nil, nil },
	}
	var location Location
	var err error
	mayMake := slices.Contains(makers, cmd.Name())
	if cmd.Flags().Changed("store") {
		location, err = locateDSN("--store", dsn, sqlite.Options{MustExist: !mayMake, SameOwner: true})
	} else {
		location, err = t.locateConfigured(cmd)
	}
	if err == nil {
		t.store, err = openMigrated(cmd, location, mayMake)
	}
	return t, err
}

// openMigrated opens a store and brings its schema up to date. A database that is
// no store of system keys becomes one only if mayMake says so.
func openMigrated(cmd *cobra.Command, location Location, mayMake bool) (store.Store, error) {
	ctx := cmd.Context()
	s, err := location.Open(ctx, noticesTo(cmd))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if !mayMake {
		if _, err := s.MintKey(ctx); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("there is no store of system keys in this database, or it cannot be read: %w", err)
		}
	}
	if err := s.Migrate(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("migrate store: %w", err)
	}
	return s, nil
}

// noticesTo logs to standard error what opening a store changes.
func noticesTo(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// locateDSN reads the value of a flag that names a store. The options are for
// one in a SQLite file.
func locateDSN(flag, dsn string, options sqlite.Options) (Location, error) {
	if err := refusePassword(flag, dsn); err != nil {
		return Location{}, err
	}
	dsn, err := resolveOne(caddy.NewReplacer(), dsn)
	if err != nil {
		return Location{}, usagef("%s: %w", flag, err)
	}
	if file, ok := strings.CutPrefix(dsn, "sqlite://"); ok {
		if !filepath.IsAbs(file) {
			return Location{}, usagef("%s: the file must be given with its absolute path, such as sqlite:///var/lib/keys.db", flag)
		}
		if strings.Contains(file, "?") {
			return Location{}, usagef("%s: sqlite:// takes the path of a file and no options", flag)
		}
		return sqliteAt(file, options), nil
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		if err := postgres.CheckDSN(dsn); err != nil {
			return Location{}, usagef("%s: %w", flag, err)
		}
		return postgresAt(dsn), nil
	}
	return Location{}, usagef("%s: must begin with sqlite:// or postgres://", flag)
}

// anyPlaceholder is what stands for something that is not on the command line.
var anyPlaceholder = regexp.MustCompile(`\{[^{}]*\}`)

// refusePassword looks at the flag as it was typed: what a placeholder stands
// for is not on the command line.
func refusePassword(flag, dsn string) error {
	refused := usagef("%s: a password on the command line can be read by every user of this machine: "+
		"use PGPASSWORD, PGPASSFILE or %s '{env.DATABASE_URL}'", flag, flag)
	if strings.HasPrefix(dsn, "sqlite://") {
		return nil
	}
	const harmless = "placeholder"
	typed := anyPlaceholder.ReplaceAllLiteralString(dsn, harmless)
	parsed, err := url.Parse(typed)
	if err != nil {
		if strings.Contains(typed, "@") || strings.Contains(typed, "password") {
			return refused // what cannot be read may still hold one
		}
		return nil
	}
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

// locateConfigured finds the store in the configuration. It resolves what the
// store needs; the secrets may be for others to read than who runs a command.
func (t *target) locateConfigured(cmd *cobra.Command) (Location, error) {
	file, _ := cmd.Flags().GetString("config")
	adapter, _ := cmd.Flags().GetString("adapter")
	raw, used, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return Location{}, fmt.Errorf("read configuration: %w", err)
	}
	if used == "" && len(raw) == 0 {
		return Location{}, usagef("there is no Caddyfile in this folder: name one with --config, or the store with --store")
	}
	var config struct {
		Admin caddy.AdminConfig `json:"admin"`
		Apps  struct {
			SystemKeys json.RawMessage `json:"system_keys"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return Location{}, fmt.Errorf("read configuration: %w", err)
	}
	if !config.Admin.Disabled {
		t.control = caddy.NewReplacer().ReplaceAll(cmp.Or(config.Admin.Listen, caddy.DefaultAdminListen), "")
	}
	if len(config.Apps.SystemKeys) == 0 {
		return Location{}, errors.New("the configuration has no system_keys: add that global option, or name the store with --store")
	}
	app := new(App)
	// As strictly as Caddy does: a mistyped setting must not mean another store.
	if err := caddy.StrictUnmarshalJSON(config.Apps.SystemKeys, app); err != nil {
		return Location{}, fmt.Errorf("read configuration: system_keys: %w", err)
	}
	app.setDefaults()
	if t.params, err = app.Argon2id.params(); err != nil {
		return Location{}, err
	}
	t.configured = true
	t.secrets = func() ([][]byte, error) {
		texts, err := resolveAll(caddy.NewReplacer(), "secret", app.Secret)
		secrets := make([][]byte, 0, len(texts))
		for _, text := range texts {
			secrets = append(secrets, []byte(text))
		}
		return secrets, err
	}
	return app.locate(caddy.NewReplacer())
}

// locate finds the store of an app that is not part of a running configuration.
// A SQLite file must be there: a command must not make an empty store where the
// server was meant to look.
func (a *App) locate(repl *caddy.Replacer) (Location, error) {
	raw := a.StoreRaw
	if raw == nil {
		raw = json.RawMessage(`{"driver":"sqlite"}`)
	}
	var sqliteStore struct {
		Driver string `json:"driver"`
		SQLite
	}
	var postgresStore struct {
		Driver string `json:"driver"`
		Postgres
	}
	var named struct {
		Driver string `json:"driver"`
	}
	if err := json.Unmarshal(raw, &named); err != nil {
		return Location{}, fmt.Errorf("store: %w", err)
	}
	switch named.Driver {
	case "sqlite":
		if err := caddy.StrictUnmarshalJSON(raw, &sqliteStore); err != nil {
			return Location{}, fmt.Errorf("store: %w", err)
		}
		location, err := sqliteStore.Locate(repl)
		if err != nil {
			return Location{}, err
		}
		return sqliteAt(location.Name, sqlite.Options{MustExist: true, SameOwner: true}), nil
	case "postgres":
		if err := caddy.StrictUnmarshalJSON(raw, &postgresStore); err != nil {
			return Location{}, fmt.Errorf("store: %w", err)
		}
		return postgresStore.Locate(repl)
	}
	return Location{}, fmt.Errorf("store: unknown driver %q", named.Driver)
}

// service makes the rules of the admin plane for the command line.
func (t *target) service(ctx context.Context) (*admin.Service, error) {
	mintKey, err := t.store.MintKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("read mint key: %w", err)
	}
	service := &admin.Service{
		Store:   t.store,
		Minter:  token.New(mintKey),
		Hash:    verify.NewSlots(t.params, int64(t.params.Memory)<<10).Hash,
		Revoker: coherence.NewRevoker(t.store, t.now, slog.New(slog.DiscardHandler)),
		Now:     t.now,
	}
	// What is not sealed here a server seals.
	if secrets, err := t.secrets(); err == nil && t.configured {
		service.Sealer = audit.NewSealer(append(secrets, nil)[0])
	}
	return service, nil
}
