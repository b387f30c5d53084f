package redis_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// TestMutualTLS has a server with a certificate of its own authority. It lets in clients with
// another one, and nobody else.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	server := testenv.StartRedis(t, testenv.MutualTLS(authority))
	trusted, own := credentials(t, authority)
	_, foreign := credentials(t, testenv.NewAuthority(t))
	const unknown = "TLS: x509: certificate signed by unknown authority"
	// The server may close the connection before its reason is read.
	refused := []string{"TLS: tls: ", "the connection was closed", "read ", "write "}
	for name, test := range map[string]struct {
		opts  redis.Options
		wants []string // one of them begins the error; none for no error
	}{
		"with both":                               {redis.Options{RootCAs: trusted, Certificate: own}, nil},
		"without a certificate":                   {redis.Options{RootCAs: trusted}, refused},
		"with the certificate of another":         {redis.Options{RootCAs: trusted, Certificate: foreign}, refused},
		"with the system's authorities":           {redis.Options{Certificate: own}, []string{unknown}},
		"with an authority that did not sign any": {redis.Options{RootCAs: x509.NewCertPool(), Certificate: own}, []string{unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := newCache(t, test.opts, server.URL())
			cache.Check(t.Context(), "sk1:check")
			h := cache.Health()
			begins := slices.ContainsFunc(test.wants, func(want string) bool { return strings.HasPrefix(h.Error, want) })
			if good := h.Condition == redis.OK && h.Error == ""; good != (test.wants == nil) || !good && !begins {
				t.Errorf("the health is %+v", h)
			}
		})
	}
}

// TestAClusterWithTLSAndAnACLUser is what a cloud sells: one address, TLS, and a user. The
// user has the rights that docs/configuration.md asks for, and no other.
func TestAClusterWithTLSAndAnACLUser(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	servers := startCluster(t, testenv.MutualTLS(authority))
	for _, server := range servers {
		restrict(t, server, "+cluster|slots")
	}
	trusted, own := credentials(t, authority)
	cache := newCache(t, redis.Options{RootCAs: trusted, Certificate: own}, "rediss://app:hunter2@"+servers[0].Addr()+"?cluster=true")
	its, others := split(t, cache, servers[1])
	for _, key := range slices.Concat(its, others) {
		wantValue(t, cache, key, "v")
	}
	for _, server := range servers {
		wantNoDenial(t, server)
	}
}

// TestWhatAnACLUserNeeds makes calls as a user who has the rights of docs/configuration.md,
// and then without each of them.
func TestWhatAnACLUserNeeds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		more   []string
		suffix string
	}{
		"a node":     {nil, ""},
		"a database": {[]string{"+select"}, "/3"},
		"a name":     {[]string{"+client|setname"}, "?client_name=caddy"},
		"both":       {[]string{"+select", "+client|setname"}, "/3?client_name=caddy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t)
			url := "redis://app:hunter2@" + server.Addr() + test.suffix
			restrict(t, server, test.more...)
			cache := newCache(t, redis.Options{}, url)
			mustSet(t, cache, "sk1:k", "v")
			wantValue(t, cache, "sk1:k", "v")
			wantNoDenial(t, server)
			for i, right := range test.more {
				restrict(t, server, slices.Delete(slices.Clone(test.more), i, i+1)...)
				poor := newCache(t, redis.Options{}, url)
				if _, err := poor.Get(t.Context(), "sk1:k"); err == nil || !strings.Contains(err.Error(), "NOPERM") {
					t.Errorf("without %s a call gives %v", right, err)
				}
			}
		})
	}
}

// TestWhatAnACLUserOfSentinelsNeeds has users on the sentinel and on the master.
func TestWhatAnACLUserOfSentinelsNeeds(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	restrict(t, master)
	sentinel := testenv.StartSentinel(t, "primary", master)
	acl(t, sentinel, "watcher", "resetchannels", "&+switch-master", "&+replica-reconf-done", "+sentinel|get-master-addr-by-name", "+sentinel|sentinels", "+subscribe", "+ping")
	cache := newCache(t, redis.Options{},
		"redis://app:hunter2@"+sentinel.Addr()+"?master_name=primary&sentinel_username=watcher&sentinel_password=hunter2")
	mustSet(t, cache, "sk1:k", "v")
	wantValue(t, cache, "sk1:k", "v")
	eventually(t, "it listens to the sentinel", func() bool {
		return strings.Contains(client(t, sentinel.SocketURL()).ClientList(t.Context()).Val(), " sub=2 ")
	})
	wantNoDenial(t, master)
	wantNoDenial(t, sentinel)
}

// TestADistantServer is 40 ms away. A connection takes a round trip for TCP, one for TLS, and
// one to log in.
func TestADistantServer(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	server := testenv.StartRedis(t, testenv.MutualTLS(authority))
	restrict(t, server)
	link := testenv.Proxy(t, server.Addr())
	link.Slow(40 * time.Millisecond)
	trusted, own := credentials(t, authority)
	opts := redis.Options{RootCAs: trusted, Certificate: own, Cooldown: time.Hour}
	url := "rediss://app:hunter2@" + link.Addr()

	opts.Timeout = 30 * time.Millisecond
	hasty := newCache(t, opts, url)
	opens(t, hasty)

	opts.Timeout = 2 * time.Second
	patient := newCache(t, opts, url)
	for i := range 20 {
		key := fmt.Sprint("sk1:", i)
		mustSet(t, patient, key, "v")
		wantValue(t, patient, key, "v")
	}
	if state := patient.State(); state != redis.StateClosed {
		t.Errorf("the breaker is %s", state)
	}
}

func TestTLSThatContradictsTheURL(t *testing.T) {
	t.Parallel()
	pool, certificate := x509.NewCertPool(), new(tls.Certificate)
	for _, test := range []struct {
		url  string
		opts redis.Options
		want string
	}{
		{"redis://:hunter2@a", redis.Options{RootCAs: pool}, "redis: a ca goes with rediss:// only"},
		{"unix:///hunter2", redis.Options{RootCAs: pool}, "redis: a ca goes with rediss:// only"},
		{"redis://:hunter2@a", redis.Options{Certificate: certificate}, "redis: a client certificate goes with rediss:// only"},
		{"rediss://:hunter2@a?skip_verify=true", redis.Options{RootCAs: pool}, "redis: a ca does not go with skip_verify"},
		{"rediss://:hunter2@a?skip_verify=false", redis.Options{RootCAs: pool, Certificate: certificate}, ""},
	} {
		got := ""
		cache, err := redis.New([]string{test.url}, test.opts)
		if err != nil {
			got = err.Error()
		} else {
			_ = cache.Close()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: want(-) got(+):\n%s", test.url, diff)
		}
	}
}

// credentials are the pool with this authority alone, and a certificate that it has signed.
func credentials(t *testing.T, authority *testenv.Authority) (*x509.CertPool, *tls.Certificate) {
	t.Helper()
	text, err := os.ReadFile(authority.File())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("the authority has no certificate")
	}
	certificate, err := tls.LoadX509KeyPair(authority.Issue("client"))
	if err != nil {
		t.Fatal(err)
	}
	return pool, &certificate
}

// restrict makes a user of a server who may read and write proofs, and has these rights.
func restrict(t *testing.T, server *testenv.Redis, rights ...string) {
	t.Helper()
	acl(t, server, "app", slices.Concat([]string{"~sk1:*", "+get", "+set"}, rights)...)
}

// acl makes a user with the password hunter2 and with these rights alone.
func acl(t *testing.T, server *testenv.Redis, user string, rights ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", user, "reset", "on", ">hunter2"}
	for _, right := range rights {
		args = append(args, right)
	}
	if err := client(t, server.SocketURL()).Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// wantNoDenial fails the test if the server has refused a command for lack of rights.
func wantNoDenial(t *testing.T, server *testenv.Redis) {
	t.Helper()
	if entries := client(t, server.SocketURL()).ACLLog(t.Context(), 10).Val(); len(entries) > 0 {
		t.Errorf("the server has refused %s, and more", entries[0].Object)
	}
}
