package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// Redis says where the verification cache is that instances share.
type Redis struct {
	// The URL of one Redis server, those of a cluster's servers, or those of the
	// sentinels (`redis://`, `rediss://` or `unix://`). With `?cluster=true` one server
	// of a cluster, or its configuration endpoint, is enough. `?master_name=` makes them
	// sentinels. If all URLs are empty, there is no Redis.
	URL []string `json:"url,omitempty"`

	// A file with the certificates (PEM) of the authorities that may have signed those of
	// the servers, in place of the authorities that the system trusts. With `rediss://`.
	CA string `json:"ca,omitempty"`

	// What this instance shows to a server that asks clients for a certificate. With
	// `rediss://`.
	Cert *RedisCert `json:"cert,omitempty"`

	// How long one call on Redis may take, from 1ms to 10s. It should be a few round
	// trips: the first call of a connection has to connect and to log in. Default: 50ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

// RedisCert is a certificate of a client. Its files are read when the configuration starts.
type RedisCert struct {
	// A file with the certificate, and with those between it and its authority (PEM).
	File string `json:"file,omitempty"`
	// A file with the certificate's key (PEM).
	Key string `json:"key,omitempty"`
}

// Bounds of the timeout.
const (
	minRedisTimeout = time.Millisecond
	maxRedisTimeout = 10 * time.Second
)

// UnmarshalCaddyfile takes an empty URL for no Redis: a variable that is not set leaves
// nothing behind, not even quotes. Syntax:
//
//	redis [<url>...] {
//		ca <file>
//		cert <file> <key>
//		timeout <duration>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	r.URL = d.RemainingArgs()
	line := *d // of the URLs
	err := option.Block{
		"ca":      option.Text(&r.CA),
		"cert":    r.unmarshalCert,
		"timeout": option.Checked(option.Duration(&r.Timeout), r.checkTimeout),
	}.Read(d, "redis: unrecognized option %q")
	if err != nil {
		return err
	}
	return option.AtLine(&line, r.Check())
}

func (r *Redis) unmarshalCert(d *caddyfile.Dispenser) error {
	r.Cert = new(RedisCert)
	if !d.AllArgs(&r.Cert.File, &r.Cert.Key) {
		return d.WrapErr(errRedisCert)
	}
	return nil
}

var errRedisCert = errors.New("redis: cert needs two files, that of a certificate and that of its key")

func (r *Redis) checkTimeout() error {
	return option.CheckDuration("redis: timeout", r.Timeout, minRedisTimeout, maxRedisTimeout)
}

// None reports whether there is no Redis: every URL is empty, as it is if it comes from a
// variable that is not set.
func (r *Redis) None() bool { return r == nil || option.IsBlank(strings.Join(r.URL, "")) }

// Check checks the settings without opening a file. It checks the URLs if none of them has a
// placeholder.
func (r *Redis) Check() error {
	switch {
	case r.None():
		return nil
	case r.Cert != nil && (option.IsBlank(r.Cert.File) || option.IsBlank(r.Cert.Key)):
		return errRedisCert
	case r.Timeout != 0 && r.checkTimeout() != nil:
		return r.checkTimeout()
	case strings.Contains(strings.Join(r.URL, ""), "{"):
		return nil
	}
	opts := redis.Options{}
	if r.CA != "" {
		opts.RootCAs = x509.NewCertPool()
	}
	if r.Cert != nil {
		opts.Certificate = new(tls.Certificate)
	}
	cache, err := redis.New(r.URL, opts)
	if err != nil {
		return err // begins with "redis"
	}
	return cache.Close()
}

// ResolvedRedis is [Redis] with every placeholder replaced and every file read.
type ResolvedRedis struct {
	URLs    []string
	Timeout time.Duration
	// CA, Cert and Key are the contents of files.
	CA, Cert, Key []byte
}

// Resolve replaces the placeholders, and reads the files. If all URLs are variables that
// are empty, there is no Redis, and no file is read. A file that cannot be read is a mistake.
func (r *Redis) Resolve(repl *caddy.Replacer, logger *slog.Logger) (*ResolvedRedis, error) {
	if r == nil {
		return nil, nil
	}
	if option.IsBlank(repl.WithoutFile().ReplaceKnown(strings.Join(r.URL, ""), "")) {
		if len(r.URL) > 0 {
			logger.Info("redis has no URL, since its variables are empty: servers do not share verifications")
		}
		return nil, nil
	}
	s := &ResolvedRedis{Timeout: time.Duration(r.Timeout)}
	var err error
	if s.URLs, err = resolve.All(repl, "redis", r.URL); err != nil {
		return nil, err
	}
	cert := r.Cert
	if cert == nil {
		cert = new(RedisCert)
	}
	for _, file := range []struct {
		name, path string
		content    *[]byte
	}{{"ca", r.CA, &s.CA}, {"cert", cert.File, &s.Cert}, {"cert", cert.Key, &s.Key}} {
		if file.path == "" {
			continue
		}
		path, err := resolve.Text(repl, file.path)
		if err == nil {
			*file.content, err = os.ReadFile(path)
		}
		if err != nil {
			return nil, fmt.Errorf("redis: %s: %w", file.name, err)
		}
	}
	return s, nil
}

// NewCache makes the cache, without connecting to it.
func (s *ResolvedRedis) NewCache(logger *slog.Logger) (*redis.Cache, error) {
	opts := redis.Options{Timeout: s.Timeout, Logger: logger}
	if s.CA != nil {
		opts.RootCAs = x509.NewCertPool()
		if !opts.RootCAs.AppendCertsFromPEM(s.CA) {
			return nil, errors.New("redis: ca: the file has no certificate (PEM)")
		}
	}
	if s.Cert != nil {
		pair, err := tls.X509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("redis: cert: %w", err)
		}
		opts.Certificate = &pair
	}
	return redis.New(s.URLs, opts)
}
