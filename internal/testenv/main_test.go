package testenv_test

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// endVariable makes this test binary start servers and then end in the way that
// the variable names, to see what it leaves behind.
const endVariable = "TESTENV_END"

func TestMain(m *testing.M) {
	if end := os.Getenv(endVariable); end != "" {
		leave(end)
	}
	goleak.VerifyTestMain(m)
}

// leave starts one server of every sort, prints where they are, and ends.
func leave(end string) {
	tb := stray{}
	database, cache := testenv.Database(tb), testenv.RedisURL(tb)
	postgres, redis := testenv.StartPostgres(tb), testenv.StartRedis(tb)
	postgres.Pause()
	redis.Pause()
	fmt.Println(database, cache, postgres.Folder(), redis.Folder())
	switch end {
	case "exit":
		os.Exit(0)
	case "panic":
		panic("as a test might")
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	}
}

// stray is a test that never ends, and so never cleans up.
type stray struct{ testing.TB }

func (stray) Helper()                        {}
func (stray) Cleanup(func())                 {}
func (stray) Context() context.Context       { return context.Background() }
func (stray) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
