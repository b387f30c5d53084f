package source

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestRedisOfVariablesThatAreEmpty is none, but not if one of them is set. No file is read
// for none.
func TestRedisOfVariablesThatAreEmpty(t *testing.T) {
	t.Setenv("SYSTEM_KEYS_TEST_EMPTY", " ")
	t.Setenv("SYSTEM_KEYS_TEST_REDIS", "redis://localhost")
	const empty, unset, full = "{env.SYSTEM_KEYS_TEST_EMPTY}", "{env.SYSTEM_KEYS_TEST_UNSET}", "{env.SYSTEM_KEYS_TEST_REDIS}"
	for _, c := range []struct {
		values []string
		ca     string
		want   int
		fails  bool
	}{
		{values: nil},
		{values: []string{""}},
		{values: []string{empty, unset, ""}},
		{values: []string{empty}, ca: unset},
		{values: []string{empty}, ca: "/not/there"},
		{values: []string{full}, want: 1},
		{values: []string{full, unset}, fails: true},
		{values: []string{full}, ca: unset, fails: true},
		{values: []string{"{file./not/there}"}, fails: true},
	} {
		r := &Redis{URL: c.values, CA: c.ca}
		got, err := r.Resolve(caddy.NewReplacer(), slog.New(slog.DiscardHandler))
		if (err != nil) != c.fails || (got != nil) != (c.want > 0) || got != nil && len(got.URLs) != c.want {
			t.Errorf("%q became %+v, %v", c.values, got, err)
		}
	}
}

func TestRedisSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		`{"url":["rediss://:hunter2@h"],"c":"x"}`:                `unknown field "c"`,
		`["rediss://:hunter2@h"]`:                                `cannot unmarshal array`,
		`{"url":["http://:hunter2@h"]}`:                          `redis: URL 1 of 1: must begin with`,
		`{"url":["redis://:hunter2@h"],"ca":"x"}`:                `redis: a ca goes with rediss:// only`,
		`{"url":["redis://:hunter2@h"],"cert":{"file":"x"}}`:     `redis: cert needs two files`,
		`{"url":["{env.NOT_SET}"],"cert":{"key":"x"}}`:           `redis: cert needs two files`,
		`{"url":["redis://:hunter2@h"],"timeout":-1}`:            `redis: timeout: must be from 1ms to 10s, not -1ns`,
		`{"url":["{env.NOT_SET}"],"timeout":60000000000}`:        `redis: timeout: must be from 1ms to 10s, not 1m0s`,
		`{"url":["rediss://:hunter2@h?skip_verify=1"],"ca":"x"}`: `redis: a ca does not go with skip_verify`,
	} {
		r := new(Redis)
		err := caddy.StrictUnmarshalJSON([]byte(settings), r)
		if err == nil {
			err = r.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want an error with %q", settings, err, want)
		}
	}
}

// TestFilesOfRedis are read at the start: what is wrong with them is told without what they
// hold.
func TestFilesOfRedis(t *testing.T) {
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue("client")
	_, other := authority.Issue("other")
	t.Setenv("SYSTEM_KEYS_TEST_FOLDER", filepath.Dir(cert))
	for name, test := range map[string]struct {
		redis Redis
		want  string
	}{
		"good":                        {Redis{CA: authority.File(), Cert: &RedisCert{cert, key}}, ""},
		"good, named by a variable":   {Redis{CA: "{env.SYSTEM_KEYS_TEST_FOLDER}/authority.crt"}, ""},
		"no such authority":           {Redis{CA: cert + "x"}, "redis: ca: open " + cert + "x: no such file or directory"},
		"no such certificate":         {Redis{Cert: &RedisCert{cert + "x", key}}, "redis: cert: open " + cert + "x: no such file or directory"},
		"no such key":                 {Redis{Cert: &RedisCert{cert, key + "x"}}, "redis: cert: open " + key + "x: no such file or directory"},
		"an authority that is a key":  {Redis{CA: key}, "redis: ca: the file has no certificate (PEM)"},
		"the key of another":          {Redis{Cert: &RedisCert{cert, other}}, "redis: cert: tls: private key does not match public key"},
		"a certificate that is a key": {Redis{Cert: &RedisCert{key, key}}, "redis: cert: tls: "},
	} {
		test.redis.URL = []string{"rediss://localhost"}
		s, err := test.redis.Resolve(caddy.NewReplacer(), slog.New(slog.DiscardHandler))
		if err == nil {
			cache, failed := s.NewCache(slog.New(slog.DiscardHandler))
			if err = failed; err == nil {
				_ = cache.Close()
			}
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
