package command_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/rogpeppe/go-internal/testscript"

	_ "github.com/lumio-vision/caddy-system-keys/caddymodule" // whose directives the scripts use
	_ "github.com/lumio-vision/caddy-system-keys/caddymodule/command"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(unraced{m}, map[string]func(){"caddy": caddycmd.Main})
}

// unraced has the tests run the command without the race detector: it starts it some
// two hundred times, and would take most of a second each time.
type unraced struct{ *testing.M }

func (m unraced) Run() int {
	folder, err := os.MkdirTemp("", "unraced-")
	if err == nil {
		defer func() { _ = os.RemoveAll(folder) }()
		err = testenv.Unraced(filepath.Join(folder, "caddy"))
	}
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	return m.M.Run()
}

// TestCommands runs the scripts under testdata/script against the real command.
func TestCommands(t *testing.T) {
	dsn, empty, unused := testenv.Database(t), testenv.Database(t), testenv.Database(t)
	doctored, redis := testenv.Database(t), testenv.RedisURL(t)
	replica := testenv.StartRedis(t, testenv.Setting("replicaof", "127.0.0.1 1"), testenv.Setting("replica-serve-stale-data", "yes"))
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode},
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir+"/home")
			e.Setenv("XDG_DATA_HOME", e.WorkDir+"/data")
			e.Setenv("DATABASE_URL", dsn)
			e.Setenv("EMPTY_DATABASE_URL", empty) // for the one script that moves keys
			e.Setenv("UNUSED_DATABASE_URL", unused)
			e.Setenv("DOCTOR_DATABASE_URL", doctored)
			e.Setenv("OK_REDIS_URL", redis)
			e.Setenv("READONLY_REDIS_URL", replica.URL())
			return nil
		},
	})
}

// exitCode runs a command that must end with this status.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode status command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("%v", err)
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
