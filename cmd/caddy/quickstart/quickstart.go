// Package quickstart is a command that shows system keys at work: it runs a Caddy with a demo
// upstream, an admin's key and a bot's key. The command is `caddy system-keys quickstart` in
// every binary with this package. Our own binary also has it as `caddy quickstart`.
//
// It runs the real thing: the same modules, store and sockets as a server, with a configuration
// that is made here in place of a Caddyfile. So --check also tells whether a binary works. It
// removes its store and Caddy's storage at the end, unless --data names a folder, and touches
// neither the storage nor the configuration of another Caddy. Only the id that every Caddy of a
// user shares is left, in instance.uuid in Caddy's data folder: Caddy makes it itself.
//
// quickstart.go runs the demo, greet.go prints what to try, check.go tries it by itself, and
// upstream.go is the demo's upstream.
package quickstart

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/adminplane"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/command"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/redact"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/source"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

// Command is the quickstart as a command of Caddy. main.go registers it once more under the
// root.
var Command = caddycmd.Command{
	Name:  "quickstart",
	Usage: "[--data DIR] [--listen ADDRESS] [--metrics ADDRESS] [--public] [--check]",
	Short: "Shows system keys at work, on this machine, with nothing to set up",
	Long: `
Starts a demo upstream, the proxy and the admin plane on a loopback address, with
a SQLite store in a fresh temporary folder, and prints two keys and three calls
to try. Ctrl-C stops it and removes the folder; one named by --data is kept.
Other addresses than loopback need --public: whoever reaches them without TLS can
read the keys on the way.

With --check it makes the calls itself, prints each with its status code and
time, and fails at the first that is not answered as promised.`,
	CobraFunc: func(cmd *cobra.Command) {
		cmd.Flags().String("data", "", "Folder for the store (default: a temporary one)")
		cmd.Flags().String("listen", defaultListen, "Address of the proxy and the admin plane")
		cmd.Flags().String("metrics", caddy.DefaultAdminListen, "Address of Caddy's admin endpoint, which has the metrics")
		cmd.Flags().Bool("public", false, "Allow addresses that other machines reach")
		cmd.Flags().Bool("check", false, "Play the story and report")
		cmd.Args = cobra.NoArgs
		cmd.RunE = runQuickstart
		command.Strict(cmd)
	},
}

// init makes the command a part of every binary that imports this package, without a list of
// commands elsewhere.
func init() { command.Add(Command) }

// defaultListen is an address that only this machine reaches. The port is fixed, so that the
// documentation can name it.
const defaultListen = "127.0.0.1:8080"

// demo is the quickstart while it runs. There is one at most in a process, as Caddy runs one
// configuration at a time.
//
// Each field is set once, before somebody reads it.
type demo struct {
	url      string
	metrics  string // the address of Caddy's admin endpoint; empty if it is off
	file     string // the SQLite file of the store
	keep     bool   // whether the file stays after the end
	service  *admin.Service
	upstream *demoUpstream
}

// runQuickstart runs the demo until a signal ends it, or plays the story with --check. Whatever
// ends it, Caddy is stopped before the folder of the store is removed. Further signals do
// nothing, so that this is not cut short.
func runQuickstart(cmd *cobra.Command, _ []string) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// If the reader of the output goes away (`| head -1`), the write must fail. By default
	// the signal would end the process before the temporary folder is removed.
	signal.Ignore(syscall.SIGPIPE)

	check, _ := cmd.Flags().GetBool("check")
	listen, _ := cmd.Flags().GetString("listen")
	if check && !cmd.Flags().Changed("listen") {
		listen = "127.0.0.1:0" // nobody has to type the port, so any free one will do
	}
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return command.Usagef("--listen: must be host:port: %w", err)
	}
	data, _ := cmd.Flags().GetString("data")
	folder, cleanUp, err := storeFolder(data)
	if err != nil {
		return err
	}
	// From here on every way out removes a temporary folder.
	defer func() { err = errors.Join(err, cleanUp()) }()

	d := &demo{file: filepath.Join(folder, "system-keys.db"), keep: data != ""}
	if d.metrics, err = metricsAddress(cmd, check); err != nil {
		return err
	}
	// The addresses are looked at before anything runs, so that one that is taken is named.
	address, err := freeAddress(cmd, listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if err := d.start(ctx, address); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()

	out := cmd.OutOrStdout()
	if check {
		return d.check(ctx, out)
	}
	if err := d.greet(ctx, out); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(out, "\nStopped.")
	return nil
}

// metricsAddress returns the address of Caddy's admin endpoint. If the default address is taken,
// such as by another Caddy, the demo runs without the endpoint. A chosen address that is taken
// is an error. A check has no endpoint unless it was chosen, so that it disturbs no other Caddy.
// An empty address means none.
//
// The address is probed like the other one, so --public counts for it too. Caddy's admin
// endpoint can change the configuration of the process, which nobody on another machine should.
func metricsAddress(cmd *cobra.Command, check bool) (string, error) {
	chosen := cmd.Flags().Changed("metrics")
	if check && !chosen {
		return "", nil
	}
	metrics, _ := cmd.Flags().GetString("metrics")
	address, err := freeAddress(cmd, metrics)
	if err != nil && chosen {
		return "", fmt.Errorf("--metrics: %w", err)
	}
	return address, nil
}

// storeFolder creates the folder of the store. CleanUp removes a temporary folder. A folder that
// is created is closed to other users, since it will hold the mint key and hashes of keys.
func storeFolder(data string) (folder string, cleanUp func() error, err error) {
	if data == "" {
		folder, err = os.MkdirTemp("", "caddy-system-keys-")
		return folder, func() error { return os.RemoveAll(folder) }, err
	}
	if folder, err = filepath.Abs(data); err == nil {
		err = os.MkdirAll(folder, 0o700)
	}
	return folder, func() error { return nil }, err
}

// start runs the upstream, and a Caddy whose own storage lies beside the keys. After an error
// nothing of it runs. The URL that is shown has an address that a browser can open, also if all
// are listened on.
//
// The order is: upstream, Caddy, service. [demo.stop] ends them the other way round.
func (d *demo) start(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	// There is no TLS, which is why other addresses need --public.
	d.url = "http://" + net.JoinHostPort(host, port)
	// The upstream comes first, since its port is a part of the configuration.
	if d.upstream, err = startDemoUpstream(ctx); err != nil {
		return err
	}
	if err := caddy.Run(d.config(address)); err != nil {
		return errors.Join(err, d.upstream.close())
	}
	// Caddy runs by now, so an error has to stop it.
	if err := d.connect(ctx); err != nil {
		return errors.Join(err, d.stop())
	}
	return nil
}

// freeAddress checks that an address is free, before Caddy would fail with a longer error. It
// picks a port in place of port 0. An address that other machines reach is wrong usage without
// --public. Another process may still take the address before Caddy does; then Caddy's own error
// is shown.
func freeAddress(cmd *cobra.Command, listen string) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(cmd.Context(), "tcp", listen)
	if err != nil {
		return "", fmt.Errorf("%w: choose another address", err)
	}
	address, err := listener.Addr(), listener.Close()
	// The address is looked at as it was resolved: a name or an empty host may mean all
	// interfaces.
	public, _ := cmd.Flags().GetBool("public")
	if tcp, ok := address.(*net.TCPAddr); !public && (!ok || !tcp.IP.IsLoopback()) {
		return "", command.Usagef("%s can be reached from other machines, and the quickstart has no TLS: use --public if that is wanted", listen)
	}
	return address.String(), err
}

// config is Caddy's configuration: one server without TLS, whose handlers are the admin plane,
// the check of keys, and the proxy. It is not persisted, so that it does not replace the
// configuration of another Caddy of this user. The log shows errors only, and takes keys out of
// them.
func (d *demo) config(address string) *caddy.Config {
	// The JSON of a handler has its name beside its settings.
	handle := func(name string, settings map[string]any) map[string]any {
		settings["handler"] = name
		return settings
	}
	// The order is that of a Caddyfile: the admin plane answers its own paths, and everything
	// else needs a key before it gets to the upstream.
	routes := []any{map[string]any{"handle": []any{
		handle("system_keys_admin", map[string]any{}),
		handle("system_key_auth", map[string]any{}),
		handle("reverse_proxy", map[string]any{
			"upstreams": []any{map[string]any{"dial": d.upstream.address}},
		}),
	}}}
	server := map[string]any{
		"listen":          []string{address},
		"routes":          routes,
		"automatic_https": map[string]any{"disable": true},
	}
	return &caddy.Config{
		StorageRaw: caddyconfig.JSONModuleObject(map[string]string{
			"root": filepath.Join(filepath.Dir(d.file), "caddy"),
		}, "module", "file_system", nil),
		Admin: &caddy.AdminConfig{
			Disabled: d.metrics == "", Listen: d.metrics, Config: &caddy.ConfigSettings{Persist: new(false)},
		},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{
				Level: "ERROR", EncoderRaw: caddyconfig.JSONModuleObject(new(redact.Encoder), "format", "redact_system_keys", nil),
			}},
		}},
		AppsRaw: caddy.ModuleMap{
			"system_keys": caddyconfig.JSON(&app.App{
				Store:            &source.Store{Driver: open.SQLite, File: &d.file},
				LastUsedInterval: caddy.Duration(time.Second), // so that the page soon shows a use
			}, nil),
			"http": caddyconfig.JSON(map[string]any{
				"servers":      map[string]any{"quickstart": server},
				"grace_period": "2s",
			}, nil),
		},
	}
}

// connect gets the service behind the admin plane from the app that Caddy runs. The keys of the
// demo are minted by it, without a request: there is no key yet that could make one.
func (d *demo) connect(ctx context.Context) error {
	// The app is the one that serves the requests, so its keys are known to it at once.
	active := app.Active()
	if active == nil { // somebody has stopped Caddy
		return app.ErrNotConfigured
	}
	live, err := active.Live(ctx)
	if err != nil {
		return err
	}
	d.service = adminplane.Service(live)
	return nil
}

// stop stops Caddy before the upstream, which may still be answering requests. It waits for
// those for the grace period at most.
func (d *demo) stop() error {
	return errors.Join(caddy.Stop(), d.upstream.close())
}
