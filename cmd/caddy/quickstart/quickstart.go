// Package quickstart is a command that shows system keys at work: it runs a Caddy with a
// demo upstream, an admin's key and a bot's key. The command is `caddy system-keys
// quickstart` in every binary with this package. Our own binary also has it as `caddy
// quickstart`.
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

// Command is the quickstart as a command of Caddy.
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

func init() { command.Add(Command) }

const defaultListen = "127.0.0.1:8080"

// demo is the quickstart while it runs.
type demo struct {
	url      string
	metrics  string // the address of Caddy's admin endpoint; empty if it is off
	file     string // the SQLite file of the store
	keep     bool   // whether the file stays after the end
	service  *admin.Service
	upstream *demoUpstream
}

// runQuickstart runs the demo until a signal ends it, or plays the story with --check.
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
	defer func() { err = errors.Join(err, cleanUp()) }()

	d := &demo{file: filepath.Join(folder, "system-keys.db"), keep: data != ""}
	if d.metrics, err = metricsAddress(cmd, check); err != nil {
		return err
	}
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

// metricsAddress returns the address of Caddy's admin endpoint. If the default address is
// taken, such as by another Caddy, the demo runs without the endpoint. A chosen address that
// is taken is an error.
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

// storeFolder creates the folder of the store. CleanUp removes a temporary folder.
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

// start runs the upstream, and a Caddy whose own storage lies beside the keys.
func (d *demo) start(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	d.url = "http://" + net.JoinHostPort(host, port)
	if d.upstream, err = startDemoUpstream(ctx); err != nil {
		return err
	}
	if err := caddy.Run(d.config(address)); err != nil {
		return errors.Join(err, d.upstream.close())
	}
	if err := d.connect(ctx); err != nil {
		return errors.Join(err, d.stop())
	}
	return nil
}

// freeAddress checks that an address is free, before Caddy would fail with a longer error.
// It picks a port in place of port 0. An address that other machines reach is wrong usage
// without --public.
func freeAddress(cmd *cobra.Command, listen string) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(cmd.Context(), "tcp", listen)
	if err != nil {
		return "", fmt.Errorf("%w: choose another address", err)
	}
	address, err := listener.Addr(), listener.Close()
	public, _ := cmd.Flags().GetBool("public")
	if tcp, ok := address.(*net.TCPAddr); !public && (!ok || !tcp.IP.IsLoopback()) {
		return "", command.Usagef("%s can be reached from other machines, and the quickstart has no TLS: use --public if that is wanted", listen)
	}
	return address.String(), err
}

// config is Caddy's configuration: one server on loopback without TLS, whose handlers are
// the admin plane, the check of keys, and the proxy. It is not persisted, so that it does
// not replace the configuration of another Caddy of this user. The log shows errors only.
func (d *demo) config(address string) *caddy.Config {
	handle := func(name string, settings map[string]any) map[string]any {
		settings["handler"] = name
		return settings
	}
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

// connect gets the service behind the admin plane from the app that Caddy runs.
func (d *demo) connect(ctx context.Context) error {
	live, err := app.Active().Live(ctx)
	if err != nil {
		return err
	}
	d.service = adminplane.Service(live)
	return nil
}

// stop stops Caddy before the upstream, which may still be answering requests.
func (d *demo) stop() error {
	return errors.Join(caddy.Stop(), d.upstream.close())
}
