// Package quickstart shows system keys at work: a Caddy with a demo upstream, an
// admin's key and a bot's. It is `caddy system-keys quickstart` wherever this package
// is built in. Only our own binary has it as `caddy quickstart` too.
package quickstart

import (
	"context"
	"encoding/json"
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
	"github.com/lumio-vision/caddy-system-keys/caddymodule"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/command"
)

// Command is the quickstart as a command of Caddy.
var Command = caddycmd.Command{
	Name:  "quickstart",
	Usage: "[--data DIR] [--listen ADDRESS] [--metrics ADDRESS] [--check]",
	Short: "Shows system keys at work, on this machine, with nothing to set up",
	Long: `
Starts a demo upstream, the proxy and the admin plane on a loopback address, with
a SQLite store in a fresh temporary folder, and prints two keys and three calls
to try. Ctrl-C stops it and removes the folder; one named by --data is kept.

With --check it makes the calls itself, prints each with its status code and
time, and fails at the first that is not answered as promised.`,
	CobraFunc: func(cmd *cobra.Command) {
		cmd.Flags().String("data", "", "Folder for the store (default: a temporary one)")
		cmd.Flags().String("listen", defaultListen, "Address of the proxy and the admin plane")
		cmd.Flags().String("metrics", caddy.DefaultAdminListen, "Address of Caddy's admin endpoint, which has the metrics")
		cmd.Flags().Bool("check", false, "Play the story and report")
		cmd.Args = cobra.NoArgs
		cmd.RunE = run
		command.Strict(cmd)
	},
}

func init() { command.Add(Command) }

const defaultListen = "127.0.0.1:8080"

// demo is the quickstart while it runs.
type demo struct {
	url      string
	metrics  string // the address of Caddy's admin endpoint; "" if it is off
	file     string
	keep     bool
	service  *admin.Service
	upstream *demoUpstream
}

func run(cmd *cobra.Command, _ []string) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader that goes away (`| head -1`) is an error of the write, and not the
	// end before the temporary folder is removed.
	signal.Ignore(syscall.SIGPIPE)

	check, _ := cmd.Flags().GetBool("check")
	listen, _ := cmd.Flags().GetString("listen")
	if check && !cmd.Flags().Changed("listen") {
		listen = "127.0.0.1:0" // nobody is to type it, so it need not be 8080
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
	if err := d.start(ctx, listen); err != nil {
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

// metricsAddress is that of Caddy's admin endpoint. Unless it was asked for, the
// demo does without where the address is taken, as by another Caddy.
func metricsAddress(cmd *cobra.Command, check bool) (string, error) {
	chosen := cmd.Flags().Changed("metrics")
	if check && !chosen {
		return "", nil
	}
	metrics, _ := cmd.Flags().GetString("metrics")
	address, err := freeAddress(cmd.Context(), metrics)
	if err != nil && chosen {
		return "", fmt.Errorf("--metrics: %w", err)
	}
	return address, nil
}

// storeFolder makes the folder of the store, and says how to be rid of it.
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

// start brings up the upstream and a Caddy of its own configuration, with its
// storage beside the keys.
func (d *demo) start(ctx context.Context, listen string) error {
	address, err := freeAddress(ctx, listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
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
	config, err := d.config(address)
	if err == nil {
		err = caddy.Run(config)
	}
	if err != nil {
		return errors.Join(err, d.upstream.close())
	}
	if err := d.connect(ctx); err != nil {
		return errors.Join(err, d.stop())
	}
	return nil
}

// freeAddress finds out early, and in plain words, that an address is taken; and
// picks a port where none is given.
func freeAddress(ctx context.Context, listen string) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", listen)
	if err != nil {
		return "", fmt.Errorf("%w: choose another address", err)
	}
	address := listener.Addr().String()
	return address, listener.Close()
}

func (d *demo) config(address string) (*caddy.Config, error) {
	handle := func(name string, settings map[string]any) map[string]any {
		settings["handler"] = name
		return settings
	}
	persist := false
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
	store, err := json.Marshal(map[string]any{"driver": "sqlite", "file": d.file})
	if err != nil {
		return nil, err
	}
	return &caddy.Config{
		StorageRaw: caddyconfig.JSONModuleObject(map[string]string{
			"root": filepath.Join(filepath.Dir(d.file), "caddy"),
		}, "module", "file_system", nil),
		Admin: &caddy.AdminConfig{
			Disabled: d.metrics == "", Listen: d.metrics, Config: &caddy.ConfigSettings{Persist: &persist},
		},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{
				Level: "ERROR", EncoderRaw: caddyconfig.JSONModuleObject(new(caddymodule.RedactEncoder), "format", "redact_system_keys", nil),
			}},
		}},
		AppsRaw: caddy.ModuleMap{
			"system_keys": caddyconfig.JSON(&caddymodule.App{
				StoreRaw:         store,
				LastUsedInterval: caddy.Duration(time.Second), // to be seen at once
			}, nil),
			"http": caddyconfig.JSON(map[string]any{
				"servers":      map[string]any{"quickstart": server},
				"grace_period": "2s",
			}, nil),
		},
	}, nil
}

// connect gets hold of the engine that Caddy runs.
func (d *demo) connect(ctx context.Context) error {
	module, err := caddy.ActiveContext().AppIfConfigured("system_keys")
	if err != nil {
		return err
	}
	d.service, err = module.(*caddymodule.App).Service(ctx)
	return err
}

func (d *demo) stop() error {
	return errors.Join(caddy.Stop(), d.upstream.close())
}
