package redis_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// client is a plain client of a server, to look at it from outside.
func client(tb testing.TB, url string) *goredis.Client {
	tb.Helper()
	options, err := goredis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := goredis.NewClient(options)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// connections is how many connections a server has had, the one that asks
// included.
func connections(tb testing.TB, server *testenv.Redis) int64 {
	tb.Helper()
	for line := range strings.Lines(info(tb, server, "stats")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "total_connections_received:"); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Fatal("redis does not count connections")
	return 0
}

// commands lists the commands that a server has been given, sorted.
func commands(tb testing.TB, server *testenv.Redis) []string {
	tb.Helper()
	var names []string
	for line := range strings.Lines(info(tb, server, "commandstats")) {
		if line, ok := strings.CutPrefix(line, "cmdstat_"); ok {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// info reads a section of a server's INFO, over a connection of its own.
func info(tb testing.TB, server *testenv.Redis, section string) string {
	tb.Helper()
	c := client(tb, server.SocketURL())
	defer c.Close()
	text, err := c.Info(tb.Context(), section).Result()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
