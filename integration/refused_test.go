package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// mislaid is a password that stands where it does not belong.
const mislaid = "hunter2"

// hostile are DSNs that are not what they seem. What stands in a wrong place was
// taken for a name, and came back in errors.
var hostile = map[string]string{
	"in quotes":                       `"postgres://app:hunter2@127.0.0.1:1/keys"`,
	"with a byte order mark":          "\ufeffpostgres://app:hunter2@127.0.0.1:1/keys",
	"with a scheme in upper case":     "Postgres://app:hunter2@127.0.0.1:1/keys",
	"of SQLAlchemy":                   "postgresql+psycopg://app:hunter2@127.0.0.1:1/keys",
	"whose user takes the password":   "host=127.0.0.1 user= password=hunter2",
	"with a blank in the password":    "host=127.0.0.1 password=two hunter2=x",
	"with a slash in the password":    "postgres://app:123/hunter2@127.0.0.1:1",
	"with an @ in the password":       "postgres://app:p@hunter2@127.0.0.1:1/keys",
	"with a question mark in it":      "postgres://app:12?hunter2@127.0.0.1:1/keys",
	"with an unknown parameter":       "postgres://127.0.0.1:1/keys?password=a&hunter2=x",
	"with a user who is not there":    "hunter2_user",
	"with a database that is not":     "hunter2_database",
	"with a parameter that is not":    "hunter2_parameter",
	"in quotes, with blanks, of .NET": `'Server=127.0.0.1;User Id=app;Password=hunter2' `,
}

// TestNoDSNGivesItsPasswordAway starts Caddy, and a command, with each (SOAK=1: both
// commands). Both fail, and neither they nor a reload say anything of it.
func TestNoDSNGivesItsPasswordAway(t *testing.T) {
	server := testenv.StartPostgres(t)
	dsn := server.Database()
	hosts := map[string]string{
		"hunter2_user":      strings.Replace(dsn, "postgres@", "hunter2_user@", 1),
		"hunter2_database":  strings.Replace(dsn, "/test_", "/hunter2_", 1),
		"hunter2_parameter": dsn + "&options=-c%20hunter2%3D1",
	}
	b := onSQLite(t)
	_, key := mint(t, b.keys(t), "bot")
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	for n, name := range slices.Sorted(maps.Keys(hostile)) {
		dsn := hostile[name]
		if real, ok := hosts[dsn]; ok {
			dsn = real
		}
		t.Run(name, func(t *testing.T) {
			p := &product{tb: t, folder: t.TempDir(), control: testenv.FreeAddress(t), wrote: make(map[string][]byte)}
			p.environ = append(os.Environ(), asCaddy+"=1", "XDG_DATA_HOME="+p.folder, "XDG_CONFIG_HOME="+p.folder, "DSN="+dsn)
			config := p.write("Caddyfile", "{\nadmin "+p.control+"\nlog {\nlevel DEBUG\n}\nsystem_keys {\nstore postgres {env.DSN}\n}\n}\n")
			for i, args := range [][]string{
				{"run", "--config", config},
				{"system-keys", "status", "--config", config},
				{"system-keys", "list", "--store", "{env.DSN}"},
			} {
				if i > 0 && i != 1+n%2 && !soak() { // one command each
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				output, err := p.command(ctx, args...).CombinedOutput()
				late := ctx.Err()
				cancel()
				if err == nil || late != nil {
					t.Errorf("%s: %v, %v: %s", args, err, late, output)
				}
				if strings.Contains(string(output), mislaid) {
					t.Errorf("%s: %s", args, output)
				}
			}
			t.Setenv("SYSTEM_KEYS_TEST_DSN", dsn)
			other := s
			other.options = "store postgres {env.SYSTEM_KEYS_TEST_DSN}"
			if err := tryLoad(t, adapt(t, other.caddyfile())); err == nil || strings.Contains(err.Error(), mislaid) {
				t.Errorf("the reload: %v", err)
			}
			s.call(t, key, http.StatusOK) // the old configuration serves on
		})
	}
}

// TestAPasswordIsNowhereWhileADatabaseIsWaitedFor has one that does not answer, and
// asks everybody why.
func TestAPasswordIsNowhereWhileADatabaseIsWaitedFor(t *testing.T) {
	p := &product{tb: t, folder: t.TempDir(), control: testenv.FreeAddress(t), wrote: make(map[string][]byte)}
	p.environ = append(os.Environ(), asCaddy+"=1", "XDG_DATA_HOME="+p.folder, "XDG_CONFIG_HOME="+p.folder,
		"DSN=postgres://hunter2_user:hunter2@127.0.0.1:1/hunter2_database?sslmode=disable\r\n")
	config := p.write("Caddyfile", "{\nadmin "+p.control+"\nmetrics\nlog {\nlevel DEBUG\n}\nsystem_keys {\nstore postgres {env.DSN}\n}\n}\n")
	caddy := p.command(t.Context(), "run", "--config", config)
	caddy.Stdout, caddy.Stderr = writer{p, "the server"}, writer{p, "the server"}
	if err := caddy.Start(); err != nil {
		t.Fatal(err)
	}
	const cause = "127.0.0.1:1: connect: connection refused"
	eventually(t, "the status has the cause", func() bool {
		return strings.Contains(p.call(http.MethodGet, p.control, "/system_keys/status", "", "").Body, cause)
	})
	p.call(http.MethodGet, p.control, "/metrics", "", "")
	output, err := p.command(t.Context(), "system-keys", "status", "--config", config).CombinedOutput()
	if err == nil {
		t.Error("the command line has reached it")
	}
	p.record("the command line", output)
	_ = caddy.Process.Kill()
	_ = caddy.Wait()
	for _, who := range []string{"the server", "the answers", "the command line"} {
		if !strings.Contains(string(p.wrote[who]), cause) {
			t.Errorf("%s does not name the cause: %s", who, p.wrote[who])
		}
	}
	if !strings.Contains(string(output), "store: not open since") {
		t.Errorf("the command line does not have the server's word: %s", output)
	}
	for who, what := range p.wrote {
		if strings.Contains(string(what), mislaid) {
			t.Errorf("%s: %s", who, what)
		}
	}
}

// TestAServerThatRefusesFailsAReload has a reload to a database that is not there, to
// one with a table of somebody else, and to one that is away.
func TestAServerThatRefusesFailsAReload(t *testing.T) {
	b, server := onPrivatePostgres(t)
	_, key := mint(t, b.keys(t), "bot")
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	s.call(t, key, http.StatusOK)
	foreign := server.Database()
	conn, err := pgx.Connect(t.Context(), foreign)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "CREATE TABLE system_keys (a int)"); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dsn     string
		refused bool
	}{
		"a database that is not there":     {strings.Replace(server.Database(), "/test_", "/nothing_", 1), true},
		"a table of somebody":              {foreign, true},
		"a user who is not there":          {strings.Replace(server.Database(), "postgres@", "nobody@", 1), true},
		"a server that does not listen":    {"postgres://127.0.0.1:1/keys?sslmode=disable", false},
		"the one that it has had, at last": {strings.TrimPrefix(strings.Fields(b.options)[2], " "), false},
	} {
		other := s
		other.options = "store postgres " + test.dsn
		err := tryLoad(t, adapt(t, other.caddyfile()))
		if (err != nil) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
		if test.refused {
			s.call(t, key, http.StatusOK)
		}
		load(t, s.caddyfile())
	}
	s.call(t, key, http.StatusOK)
}

// TestRedisThatRefusesWritesShows has a read-only replica.
func TestRedisThatRefusesWritesShows(t *testing.T) {
	server := testenv.StartRedis(t)
	b := onSQLite(t)
	keys := b.keys(t)
	b.options += fmt.Sprintf("\nredis %s\nsecret 0123456789abcdef0123456789abcdef", server.URL())
	c := runControlled(t, b, storySite(t))
	if s, text := c.status(t); s.Instance.Redis == nil || s.Instance.Redis.State != "ok" {
		t.Errorf("the status is %s", text)
	}
	server.Command("REPLICAOF 127.0.0.1 1")
	eventually(t, "the status says so", func() bool {
		_, key := mint(t, keys, "bot")
		get(t, "http://"+c.site+"/", "Bearer "+key)
		s, _ := c.status(t)
		r := s.Instance.Redis
		return r.State == "failing" && r.Reads == "ok" && r.Writes == "failing" && strings.HasPrefix(r.Error, "READONLY") && !r.Since.IsZero()
	})
	server.Command("REPLICAOF NO ONE")
	eventually(t, "the status says that it is over, though nobody has written", func() bool {
		s, _ := c.status(t)
		return s.Instance.Redis.State == "ok" && s.Instance.Redis.Error == ""
	})
}
