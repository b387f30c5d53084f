package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// build is a Caddy that is measured: a program, and its environment.
type build struct {
	name        string
	program     string // "": this one
	environment []string
}

// builds are what is compared, each a program of its own.
type builds struct{ stock, plain, tuned build }

// tuning is what deploy sets.
var tuning = []string{"GOGC=400", "GOMEMLIMIT=460MiB"}

// build builds the programs of this checkout, as make build does.
func (r *run) build(ctx context.Context) (b builds, err error) {
	b = builds{
		stock: build{name: "stock Caddy"},
		plain: build{name: "our build, untuned"},
		tuned: build{name: "our build, tuned", environment: tuning},
	}
	for _, of := range []struct {
		build            *build
		profile, command string
	}{
		{&b.stock, "off", "./bench/stock"},
		{&b.plain, "off", "./cmd/caddy"},
		{&b.tuned, "default.pgo", "./cmd/caddy"},
	} {
		r.progress("builds %s", of.build.name)
		of.build.program = filepath.Join(r.folder, filepath.Base(of.command)+"-"+of.profile)
		goBuild := exec.CommandContext(ctx, "go", "build", "-trimpath", "-pgo="+of.profile, "-o", of.build.program, of.command)
		goBuild.Env, goBuild.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := goBuild.Run(); err != nil {
			return b, fmt.Errorf("build %s: %w", of.build.name, err)
		}
	}
	return b, nil
}
