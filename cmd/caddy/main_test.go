package main

import (
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes two commands: ours, and what xcaddy builds, whose main function is
// Caddy's.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"caddy": main, "xcaddy-caddy": caddycmd.Main})
}

// TestQuickstart runs the scripts under testdata/script.
func TestQuickstart(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir+"/home")
			e.Setenv("XDG_DATA_HOME", e.WorkDir+"/data")
			return nil
		},
	})
}
