// Package app is the Caddy app `system_keys`: what the configuration says, and the engine that
// its handlers share and that survives reloads. It knows no handler.
//
//   - settings.go has defaults and checks, and caddyfile.go the syntax. Package source says
//     where the data is.
//   - pool.go keeps the engine over reloads. running.go gives it to handlers.
//   - signers.go keeps a secret from signing for two audiences.
//   - recording.go writes requests to the audit log. state.go has the metrics.
package app

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/source"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App holds what all handlers of system keys share: the store that keeps the
// keys, and the engine in front of it. There is one per configuration. The
// engine survives a reload: caches and connections stay as they are as long as
// the settings of this app do.
//
// All strings may contain Caddy's global placeholders, such as
// `{env.DATABASE_URL}` or `{file./run/secrets/dsn}`. They are replaced when the
// configuration starts, not when it is checked. Blanks and line ends around the
// content of a file or a variable are cut off. Quotes around it are an error.
type App struct {
	// Where the keys are kept: `sqlite` or `postgres`. Default: `sqlite`, with
	// the file `system-keys.db` in Caddy's data folder.
	Store *source.Store `json:"store,omitempty"`

	// The verification cache that instances share. Optional. It saves Argon2id work
	// and decides nothing: without it, or while it is down, every instance verifies
	// each key once itself. Needs `secret`.
	Redis *source.Redis `json:"redis,omitempty"`

	// The cost of the stored hashes of new keys. A key with a weaker hash is
	// hashed again after its next use. Default: 19 MiB, 2 iterations, 1 lane.
	Argon2id *Argon2id `json:"argon2id,omitempty"`

	// How much memory all Argon2id computations together may take, in bytes.
	// Default: 268435456 (256 MiB).
	HashMemory int64 `json:"hash_memory,omitempty"`

	// How many verified keys an instance keeps in memory. Default: 100000 keys, and 128 MiB.
	KeyMemory *KeyMemory `json:"key_memory,omitempty"`

	// How long an instance may trust its cache without hearing from the store, from
	// 500ms to 2m. If an instance cannot reach the store for longer, it answers 503
	// until it can again. A revocation waits at most this long for an instance that
	// does not answer. Default: 30s.
	Lease caddy.Duration `json:"lease,omitempty"`

	// What happens to the requests in flight when the lease runs out: `cut`, or
	// `keep`, which lets them go on although their keys may have been revoked.
	// Default: `cut`.
	OnLapse string `json:"on_lapse,omitempty"`

	// Secrets of this installation, the same on all instances. They authenticate the
	// data in Redis and the audit log, and name adopted keys. The first is used. The
	// others are still accepted, so that a secret can be replaced. Use `{env.…}` or
	// `{file.…}`: Caddy's `/config/` endpoint shows a literal secret.
	Secret []string `json:"secret,omitempty"`

	// Accept keys that another service has minted: `lm_sys_` and up to 256
	// characters of a bearer token, if that service, or SQL, has written their
	// Argon2id hash into `system_keys`. Such a string does not name its row. It is
	// tried against those rows once, slowly and within bounds. From then on a digest
	// under `secret` finds it. Meant for the time of a move: switch it off when all
	// clients have keys that were minted here. Off by default. Needs `secret`.
	AdoptKeys bool `json:"adopt_keys,omitempty"`

	// How often last uses are written to the store. A crash loses one interval
	// at most. Default: 10s.
	LastUsedInterval caddy.Duration `json:"last_used_interval,omitempty"`

	// Which of the requests that were let through get into the audit log: `all`,
	// `writes` (all but GET, HEAD, OPTIONS and TRACE) or `none`. Changes of keys, and
	// the use of revoked or expired keys, are always recorded. Records are written
	// behind: a crash loses about a second of them. Default: `writes`.
	AuditRequests string `json:"audit_requests,omitempty"`

	// How long audit records are kept, at least 1h. Default: 90 days.
	AuditRetention caddy.Duration `json:"audit_retention,omitempty"`

	// How long keys are kept, and can be listed, after their expiry, at least 1s. Then
	// they are deleted, with a record `api_key.expired` in the audit log. No key is
	// accepted after its expiry, whatever this is. Default: 30 days.
	ExpiredRetention caddy.Duration `json:"expired_retention,omitempty"`

	logger *slog.Logger

	// lifetime ends with the configuration, by end.
	lifetime context.Context
	end      context.CancelFunc

	connections cut.Connections
	watched     map[*caddyhttp.Server]struct{}

	engine  atomic.Pointer[engine.Engine]
	started chan struct{} // closed when engine is set
	onStart []func(repl *caddy.Replacer, signers Signers) error
	release func() error // gives back the reference on the pool; nil without one
}

// Argon2id is the cost of a hash (RFC 9106).
type Argon2id struct {
	// Memory in bytes, a multiple of 1024, at least 7340032 (7 MiB).
	Memory int64 `json:"memory,omitempty"`
	// Passes over the memory.
	Iterations int `json:"iterations,omitempty"`
	// Lanes.
	Parallelism int `json:"parallelism,omitempty"`
}

// KeyMemory bounds the verified keys in memory. Beyond either bound the keys that were not
// used for longest make room: their next use reads the row again.
type KeyMemory struct {
	// The number of keys. Default: 100000.
	Entries int `json:"entries,omitempty"`
	// What they may take together, in bytes. A key takes about 1 KiB, and more with a long
	// label or many permissions. Default: 134217728 (128 MiB).
	Size int64 `json:"size,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "system_keys",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision fills in the defaults. It opens nothing, since Caddy also calls it to check a
// configuration.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Slogger()
	if err := RegisterMetrics(ctx); err != nil {
		return err
	}
	a.started = make(chan struct{})
	a.lifetime, a.end = context.WithCancel(context.Background())
	a.setDefaults()
	a.Store.WarnOfPassword(a.logger)
	return nil
}

// WhenStarted calls do when the app starts, which is when placeholders may be resolved and
// secrets claimed. Handlers register their part while they are provisioned.
func (a *App) WhenStarted(do func(repl *caddy.Replacer, signers Signers) error) {
	a.onStart = append(a.onStart, do)
}

// WatchConnections lets a cut end the connections of a server that is being provisioned. All
// handlers of the server share one hook.
func (a *App) WatchConnections(server *caddyhttp.Server) {
	if _, watched := a.watched[server]; watched {
		return
	}
	if a.watched == nil {
		a.watched = make(map[*caddyhttp.Server]struct{})
	}
	a.watched[server] = struct{}{}
	server.RegisterConnContext(a.connections.Context)
	server.RegisterConnState(a.connections.State)
}

// Start resolves the placeholders and opens the store. If the settings are the same as
// before a reload, it takes over the engine of the previous configuration.
func (a *App) Start() error {
	repl := caddy.NewReplacer()
	settings, err := a.resolve(repl)
	if err != nil {
		return err
	}
	signers := make(Signers)
	if err := signers.Claim(OwnSecret, settings.Secrets...); err != nil {
		return err
	}
	for _, do := range a.onStart {
		if err := do(repl, signers); err != nil {
			return err
		}
	}
	e, release, err := acquire(settings, a.logger)
	if err != nil {
		return err
	}
	a.release = release
	if err := e.Start(a.lifetime); err != nil {
		return err
	}
	a.engine.Store(e)
	close(a.started)
	return nil
}

// Stop does nothing. After a reload Caddy calls it while requests of this configuration
// are still being served. Cleanup gives back what the app holds.
func (*App) Stop() error { return nil }

// Cleanup gives back the engine. The last app that does so closes it.
func (a *App) Cleanup() error {
	if a.end != nil {
		a.end()
	}
	if a.release == nil {
		return nil
	}
	return a.release()
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
