package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
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

// action is what a command does to an open store.
type action func(cmd *cobra.Command, t *target) error

// onStore makes a cobra function of one that reads the flags and arguments and says
// what to do. The store is opened, made and migrated only for a call that is
// well formed.
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

// openTarget opens the store that the flags name, and brings its schema up to
// date. Only [makers] make a store, and a SQLite file only where --store names it.
// Beside an error it returns what the configuration says.
func openTarget(cmd *cobra.Command) (*target, error) {
	dsn, _ := cmd.Flags().GetString("store")
	t := &target{
		params: phc.Default(), now: time.Now, //nolint:forbidigo // the real clock is wired here
		secrets: func() ([][]byte, error) { return nil, nil },
	}
	var location open.Location
	var err error
	mayMake := slices.Contains(makers, cmd.Name())
	if cmd.Flags().Changed("store") {
		location, err = locateDSN("--store", dsn)
	} else {
		location, err = t.locateConfigured(cmd)
	}
	if err == nil {
		mayMakeFile := mayMake && cmd.Flags().Changed("store")
		t.store, err = openMigrated(cmd, location, mayMakeFile, mayMake)
	}
	return t, err
}

// openMigrated opens a store and brings its schema up to date. A database that is
// no store of system keys becomes one only if mayMake says so.
func openMigrated(cmd *cobra.Command, location open.Location, mayMakeFile, mayMake bool) (store.Store, error) {
	ctx := cmd.Context()
	s, err := location.Open(ctx, openOptions(cmd, mayMakeFile))
	if err != nil {
		return nil, err // begins with "open store"
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

// openOptions refuses a SQLite file of another user. A file that is not there is an
// error unless mayMakeFile says otherwise.
func openOptions(cmd *cobra.Command, mayMakeFile bool) open.Options {
	return open.Options{MustExist: !mayMakeFile, SameOwner: true, Logger: noticesTo(cmd)}
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

// locateDSN reads the value of a flag that names a store.
func locateDSN(flag, dsn string) (open.Location, error) {
	if err := refusePassword(flag, dsn); err != nil {
		return open.Location{}, err
	}
	dsn, err := caddymodule.Resolve(caddy.NewReplacer(), dsn)
	if err != nil {
		return open.Location{}, Usagef("%s: %w", flag, err)
	}
	location, err := open.DSN(dsn)
	if err != nil {
		return open.Location{}, Usagef("%s: %w", flag, err)
	}
	return location, nil
}

// anyPlaceholder is what stands for something that is not on the command line.
var anyPlaceholder = regexp.MustCompile(`\{[^{}]*\}`)

// refusePassword looks at the flag as it was typed: what a placeholder stands
// for is not on the command line.
func refusePassword(flag, dsn string) error {
	refused := Usagef("%s: a password on the command line can be read by every user of this machine: "+
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
func (t *target) locateConfigured(cmd *cobra.Command) (open.Location, error) {
	file, _ := cmd.Flags().GetString("config")
	adapter, _ := cmd.Flags().GetString("adapter")
	raw, used, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return open.Location{}, fmt.Errorf("read configuration: %w", err)
	}
	if used == "" && len(raw) == 0 {
		return open.Location{}, Usagef("there is no Caddyfile in this folder: name one with --config, or the store with --store")
	}
	var config struct {
		Admin caddy.AdminConfig `json:"admin"`
		Apps  struct {
			SystemKeys json.RawMessage `json:"system_keys"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return open.Location{}, fmt.Errorf("read configuration: %w", err)
	}
	if !config.Admin.Disabled {
		t.control = caddy.NewReplacer().ReplaceAll(cmp.Or(config.Admin.Listen, caddy.DefaultAdminListen), "")
	}
	if len(config.Apps.SystemKeys) == 0 {
		return open.Location{}, errors.New("the configuration has no system_keys: add that global option, or name the store with --store")
	}
	app, err := caddymodule.ReadApp(config.Apps.SystemKeys)
	if err != nil {
		return open.Location{}, fmt.Errorf("read configuration: system_keys: %w", err)
	}
	if t.params, err = app.Argon2id.Params(); err != nil {
		return open.Location{}, err
	}
	t.configured, t.secrets = true, app.Secrets
	return app.Locate()
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
