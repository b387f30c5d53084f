package integration_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// headerProxy is a Caddy between the clients of the header suite and a
// recorder.
type headerProxy struct {
	upstream *recorder
	// plain serves HTTP/1 and HTTP/2 with prior knowledge, secure HTTP/1, HTTP/2
	// and HTTP/3. lenient is like plain, and lets names with underscores and dots
	// reach the handlers.
	plain, secure, lenient string
	roots                  *x509.CertPool
	// key is a live key, and identity what the upstream learns of it.
	key      string
	identity []string
}

// tls is for a client that speaks one protocol only.
func (p *headerProxy) tls(protocol string) *tls.Config {
	return &tls.Config{ServerName: "localhost", RootCAs: p.roots, NextProtos: []string{protocol}}
}

func startHeaderProxy(t *testing.T) *headerProxy {
	t.Helper()
	upstream := newRecorder(t)
	return startHeaderProxyTo(t, upstream, upstream.addr())
}

// startHeaderProxyTo proxies to an upstream other than the recorder.
func startHeaderProxyTo(t *testing.T, upstream *recorder, addr string) *headerProxy {
	t.Helper()
	p := &headerProxy{upstream: upstream, plain: freeAddr(t), secure: freeAddr(t), lenient: freeAddr(t)}
	certFile, keyFile, roots := newCertificate(t)
	p.roots = roots
	site := fmt.Sprintf(`
		bind 127.0.0.1
		handle /pass/* {
			system_key_auth {
				passthrough
			}
			reverse_proxy %[1]s
		}
		handle /keep/* {
			system_key_auth {
				keep_credential
			}
			reverse_proxy %[1]s
		}
		handle /edit/* {
			system_key_auth
			request_header X-Lumio-Key-Label ^(.*)$ "$1, edited"
			request_header +X-Lumio-Key-Label added
			reverse_proxy %[1]s
		}
		handle {
			system_key_auth
			reverse_proxy %[1]s
		}`, addr)
	id, key := loadWithKey(t, "Bot é 100%", []string{"bots:write", "bots:read"}, fmt.Sprintf(`
	servers %s {
		protocols h1 h2c
	}
	servers %s {
		protocols h1 h2c
		expected_underscore_headers X_Lumio_* X-Lumio_Key.Id X_Lumio-Assertion
		expected_dot_headers X.Lumio.* X-Lumio_Key.Id
	}`, p.plain, p.lenient), fmt.Sprintf(`
http://:%[1]s, http://:%[2]s {
	%[4]s
}
https://localhost:%[3]s {
	tls %[5]s %[6]s
	%[4]s
}`, port(t, p.plain), port(t, p.lenient), port(t, p.secure), site, certFile, keyFile))
	p.key = key
	p.identity = []string{
		"X-Lumio-Auth-Type: system_key",
		"X-Lumio-Key-Id: " + id,
		"X-Lumio-Key-Label: Bot %C3%A9 100%25",
		"X-Lumio-Permissions: bots:read,bots:write",
	}
	slices.Sort(p.identity)
	return p
}

// loadWithKey runs sites with a key in their store. It returns the key's id and
// the key.
func loadWithKey(t *testing.T, label string, permissions []string, servers, sites string) (id, plain string) {
	t.Helper()
	b := onSQLite(t)
	key, plain := mint(t, b.keys(t), label, permissions...)
	load(t, fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period 1s
	log {
		output discard
	}
	%s
	system_keys {
		%s
		%s
	}
}
%s`, servers, b.options, cheap, sites))
	return key.ID.String(), plain
}

// freeAddr returns an address of 127.0.0.1 whose port is free for TCP and UDP.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		addr := testenv.FreeAddress(tb)
		packets, err := net.ListenPacket("udp", addr)
		if err == nil {
			packets.Close()
			return addr
		}
	}
	tb.Fatal("no port is free for both TCP and UDP")
	return ""
}

func port(tb testing.TB, addr string) string {
	tb.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	return port
}
