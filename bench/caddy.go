package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// asCaddy makes this program be Caddy: the server that is measured.
const asCaddy = "SYSTEM_KEYS_BENCH_CADDY"

// setup is what a Caddy is to be: one global block of ours, and sites on loopback.
type setup struct {
	// folder is for whatever it writes, and is the caller's to remove.
	folder string
	// options are the lines of the global option system_keys; without any it is not
	// there, and nothing of the plugin runs.
	options []string
	// quiet leaves out of the log why a request could not be answered.
	quiet bool

	sites     strings.Builder
	addresses []string
}

// site adds one with these directives, and returns its address.
func (s *setup) site(directives string) string {
	address := freeAddress()
	s.addresses = append(s.addresses, address)
	fmt.Fprintf(&s.sites, "http://%s {\n%s\n}\n", address, directives)
	return address
}

// start is begin, and waits until it listens everywhere.
func (s *setup) start(ctx context.Context, processors string) (*process, error) {
	p, err := s.begin(ctx, processors)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, s.addresses...); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// begin starts it on some processors, or on all.
func (s *setup) begin(ctx context.Context, processors string) (*process, error) {
	exclude := ""
	if s.quiet {
		exclude = "exclude http.handlers.system_key_auth"
	}
	app := ""
	if len(s.options) > 0 {
		app = "system_keys {\n\t\t" + strings.Join(s.options, "\n\t\t") + "\n\t}"
	}
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	default_bind 127.0.0.1
	grace_period 2s
	log {
		level ERROR
		%s
	}
	%s
}
%s`, exclude, app, s.sites.String())
	config := filepath.Join(s.folder, "Caddyfile")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	environment := []string{asCaddy + "=1", "XDG_DATA_HOME=" + s.folder, "XDG_CONFIG_HOME=" + s.folder}
	return start(ctx, processors, environment, "run", "--config", config)
}
