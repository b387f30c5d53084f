package caddymodule

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
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
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
			cmd.Flags().String("listen", quickstartListen, "Address of the proxy and the admin plane")
			cmd.Flags().String("metrics", caddy.DefaultAdminListen, "Address of Caddy's admin endpoint, which has the metrics")
			cmd.Flags().Bool("check", false, "Play the story and report")
			cmd.Args = arguments(cobra.NoArgs)
			cmd.PreRunE = refuseEmptyFlags
			cmd.SilenceUsage = true
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				return exit(cmd, runQuickstart(cmd))
			}
			cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
				return exit(cmd, &usageError{err})
			})
		},
	})
}

const quickstartListen = "127.0.0.1:8080"

// quickstart is the demo while it runs.
type quickstart struct {
	url      string
	metrics  string // the address of Caddy's admin endpoint; "" if it is off
	file     string
	keep     bool
	service  *admin.Service
	upstream *demoUpstream
}

func runQuickstart(cmd *cobra.Command) (err error) {
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
		return usagef("--listen: must be host:port: %w", err)
	}
	data, _ := cmd.Flags().GetString("data")
	folder, cleanUp, err := quickstartFolder(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()

	q := &quickstart{file: filepath.Join(folder, "system-keys.db"), keep: data != ""}
	if q.metrics, err = metricsAddress(cmd, check); err != nil {
		return err
	}
	if err := q.start(ctx, listen); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.stop()) }()

	out := cmd.OutOrStdout()
	if check {
		return q.check(ctx, out)
	}
	if err := q.greet(ctx, out); err != nil {
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

// quickstartFolder makes the folder of the store, and says how to be rid of it.
func quickstartFolder(data string) (folder string, cleanUp func() error, err error) {
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
func (q *quickstart) start(ctx context.Context, listen string) error {
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
	q.url = "http://" + net.JoinHostPort(host, port)
	if q.upstream, err = startDemoUpstream(ctx); err != nil {
		return err
	}
	config, err := q.config(address)
	if err == nil {
		err = caddy.Run(config)
	}
	if err != nil {
		return errors.Join(err, q.upstream.close())
	}
	if err := q.connect(ctx); err != nil {
		return errors.Join(err, q.stop())
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

func (q *quickstart) config(address string) (*caddy.Config, error) {
	handle := func(name string, settings map[string]any) map[string]any {
		settings["handler"] = name
		return settings
	}
	persist := false
	routes := []any{map[string]any{"handle": []any{
		handle("system_keys_admin", map[string]any{}),
		handle("system_key_auth", map[string]any{}),
		handle("reverse_proxy", map[string]any{
			"upstreams": []any{map[string]any{"dial": q.upstream.address}},
		}),
	}}}
	server := map[string]any{
		"listen":          []string{address},
		"routes":          routes,
		"automatic_https": map[string]any{"disable": true},
	}
	store, err := json.Marshal(map[string]any{"driver": "sqlite", "file": q.file})
	if err != nil {
		return nil, err
	}
	return &caddy.Config{
		StorageRaw: caddyconfig.JSONModuleObject(map[string]string{
			"root": filepath.Join(filepath.Dir(q.file), "caddy"),
		}, "module", "file_system", nil),
		Admin: &caddy.AdminConfig{
			Disabled: q.metrics == "", Listen: q.metrics, Config: &caddy.ConfigSettings{Persist: &persist},
		},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{
				Level: "ERROR", EncoderRaw: caddyconfig.JSONModuleObject(new(RedactEncoder), "format", "redact_system_keys", nil),
			}},
		}},
		AppsRaw: caddy.ModuleMap{
			"system_keys": caddyconfig.JSON(&App{
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
func (q *quickstart) connect(ctx context.Context) error {
	module, err := caddy.ActiveContext().AppIfConfigured("system_keys")
	if err != nil {
		return err
	}
	live, err := module.(*App).live(ctx)
	if err != nil {
		return err
	}
	q.service = serviceOn(live)
	return nil
}

func (q *quickstart) stop() error {
	return errors.Join(caddy.Stop(), q.upstream.close())
}
