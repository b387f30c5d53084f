package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// StartSentinel starts a Redis Sentinel for this test alone, which watches over
// master under the given name and is a quorum of its own. It ends with the
// test. [Redis.FlushAll] means nothing to it.
func StartSentinel(tb testing.TB, name string, master *Redis) *Redis {
	tb.Helper()
	watch := fmt.Sprintf("sentinel monitor %s 127.0.0.1 %s 1\n", name, master.port)
	if master.password != "" {
		watch += fmt.Sprintf("sentinel auth-pass %s %s\n", name, master.password)
	}
	return startRedis(tb, nil, func(folder string) ([]string, error) {
		// A sentinel writes what it learns into its configuration file.
		path := filepath.Join(folder, "sentinel.conf")
		return []string{path, "--sentinel"}, os.WriteFile(path, []byte(watch), 0o600)
	})
}
