package redis

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURLs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		urls string // separated by spaces
		want target
	}{
		{
			"a node on the default port", "redis://cache",
			target{scheme: "redis", addrs: []string{"cache:6379"}},
		},
		{
			"a node with everything", "rediss://ann:p%40ss@cache:7000/3?client_name=caddy&pool_size=20&skip_verify=true",
			target{
				scheme: "rediss", addrs: []string{"cache:7000"}, username: "ann", password: "p@ss", db: 3,
				parameters: parameters{"client_name": "caddy", "pool_size": "20", "skip_verify": "true"},
			},
		},
		{
			"a password alone", "redis://:secret@cache",
			target{scheme: "redis", addrs: []string{"cache:6379"}, password: "secret"},
		},
		{
			"a node with an IPv6 address", "redis://[::1]/",
			target{scheme: "redis", addrs: []string{"[::1]:6379"}},
		},
		{
			"a unix socket", "unix://:secret@/run/redis.sock?db=2",
			target{
				scheme: "unix", addrs: []string{"/run/redis.sock"}, password: "secret", db: 2,
				parameters: parameters{"db": "2"},
			},
		},
		{
			"a cluster, where the first speaks for all", "redis://:secret@a?pool_size=5 redis://b redis://:secret@c:7000?pool_size=5",
			target{
				scheme: "redis", addrs: []string{"a:6379", "b:6379", "c:7000"}, password: "secret",
				parameters: parameters{"pool_size": "5"},
			},
		},
		{
			"a cluster of which one server is named", "rediss://:secret@a?cluster=true",
			target{scheme: "rediss", addrs: []string{"a:6379"}, password: "secret", parameters: parameters{"cluster": "true"}},
		},
		{
			"sentinels, with their own port and password", "redis://:secret@a/1?master_name=m&sentinel_password=s redis://b:26379",
			target{
				scheme: "redis", addrs: []string{"a:26379", "b:26379"}, password: "secret", db: 1,
				parameters: parameters{"master_name": "m", "sentinel_password": "s"},
			},
		},
		{
			"one sentinel", "redis://a?master_name=m",
			target{scheme: "redis", addrs: []string{"a:26379"}, parameters: parameters{"master_name": "m"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseURLs(strings.Fields(test.urls))
			if err != nil {
				t.Fatal(err)
			}
			if test.want.parameters == nil {
				test.want.parameters = parameters{}
			}
			if diff := cmp.Diff(&test.want, got, cmp.AllowUnexported(target{})); diff != "" {
				t.Errorf("want(-) got(+):\n%s", diff)
			}
		})
	}
}

func TestParseURLsSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, urls, want string }{
		{"no URL", "", "no URL is given"},
		{"another scheme", "http://hunter2", "must begin with redis://"},
		{"no scheme", "hunter2:6379", "redis://"},
		{"no slashes", "redis:hunter2", "names no host"},
		{"no host", "redis://:hunter2@/0", "names no host"},
		{"a port that is a word", "redis://:hunter2@cache:redis", "malformed"},
		{"a port out of range", "redis://:hunter2@cache:65536", "port"},
		{"port zero", "redis://:hunter2@cache:0", "port"},
		{"a bad escape in the password", "redis://:hunter2%zz@cache", "malformed"},
		{"a slash in the password", "redis://:12/hunter2@cache", ""},
		{"a question mark in the password", "redis://a:12?hunter2@cache", "before its last @"},
		{"a hash in the password", "redis://a:12#hunter2@cache", "before its last @"},
		{"a user without a password", "redis://hunter2@cache", "without a password"},
		{"a database that is a word", "redis://:hunter2@cache/zero", "database"},
		{"a negative database", "redis://:hunter2@cache?db=-1", "database"},
		{"two databases", "redis://:hunter2@cache/1?db=2", "two databases"},
		{"an unknown parameter", "redis://:hunter2@cache?read_timeout=1s", `unknown parameter "read_timeout"`},
		{"a parameter twice", "redis://:hunter2@cache?db=1&db=2", "db twice"},
		{"a parameter without a value", "redis://:hunter2@cache?master_name=", "master_name without"},
		{"malformed parameters", "redis://:hunter2@cache?db=%zz", "malformed parameters"},
		{"a pool of none", "redis://:hunter2@cache?pool_size=0", "pool_size"},
		{"a doubtful truth", "rediss://:hunter2@cache?skip_verify=maybe", "skip_verify"},
		{"no verification without TLS", "redis://:hunter2@cache?skip_verify=true", "rediss:// only"},
		{"a relative socket", "unix://:hunter2@run/redis.sock", "absolute path"},
		{"no socket", "unix:///", "absolute path"},
		{"two sockets", "unix:///a unix:///b", "URL 2 of 2"},
		{"mixed schemes", "redis://:hunter2@a rediss://b", "another scheme"},
		{"the same server twice", "redis://:hunter2@a redis://b redis://a:6379", "URL 3 of 3: names the same"},
		{"two passwords", "redis://:hunter2@a redis://:hunter3@b", "another user or password"},
		{"two users", "redis://a:hunter2@a redis://b:hunter2@b", "another user or password"},
		{"two databases in a list", "redis://a?master_name=m redis://b/1", "another database"},
		{"a parameter that comes late", "redis://a redis://b?master_name=m", "master_name"},
		{"a database of a cluster", "redis://a/1 redis://b", "no database but 0"},
		{"a database of a cluster that is named so", "redis://a/1?cluster=true", "no database but 0"},
		{"a doubtful cluster", "redis://a?cluster=false", "cluster that is not true"},
		{"a cluster on a socket", "unix:///a?cluster=true", "unix socket"},
		{"a cluster of sentinels", "redis://a?cluster=true&master_name=m", "does not go with master_name"},
		{"a sentinel's password without a master", "redis://a?sentinel_password=hunter2", "with master_name only"},
		{"a sentinel's user without a password", "redis://a?master_name=m&sentinel_username=u", "sentinel_password"},
		{"a sentinel on a socket", "unix:///a?master_name=m", "unix socket"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseURLs(strings.Fields(test.urls))
			if err == nil {
				t.Fatal("the URLs are accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %q, want %q in it", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("the error repeats the password: %q", err)
			}
		})
	}
}

func FuzzParseURLsKeepsThePassword(f *testing.F) {
	for _, seed := range []string{"", "/", "?", "#", "@", "%zz", ":1/", ":1?a=", " ", "[", "\x00"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		raw := "redis://user:" + before + "hunter2" + after + "@cache/0"
		if _, err := parseURLs([]string{raw}); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
