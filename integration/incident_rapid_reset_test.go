package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
)

// TestIncidentRapidReset opens streams of HTTP/2 and resets each at once, with
// keys that nobody minted, that nobody has any more, and that are good. None of
// it makes the server work, or leaves anything behind; a client that waits for
// its answers goes on to get them.
func TestIncidentRapidReset(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, plain := mint(t, keys, "bot")
	address := freeAddr(t)
	load(t, fmt.Sprintf(`{
		admin off
		persist_config off
		log {
			output discard
		}
		servers {
			protocols h1 h2c
		}
		system_keys {
			%s
			%s
		}
	}
	http://%s {
		system_key_auth
		reverse_proxy %s {
			# Idle connections to the upstream are kept for requests to come.
			transport http {
				keepalive off
			}
		}
	}`, b.options, cheap, address, echo(t)))
	if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	before, goroutines := app.Stats(), runtime.NumGoroutine()

	unknown := keys.Minter.Mint(uuid.Must(uuid.NewV7()), [32]byte{1})
	streams := 2_000
	if soak() {
		streams = 200_000
	}
	for name, key := range map[string]string{
		"unminted": "lm_sys_" + string(bytes.Repeat([]byte("0"), 76)), "unknown": unknown, "good": plain,
	} {
		done := make(chan int, 1)
		go func() { done <- reset(t, address, key, streams) }()
		for opened := 0; opened == 0; {
			select {
			case opened = <-done:
				if opened < streams {
					t.Errorf("%s: only %d streams were opened", name, opened)
				}
			default:
			}
			if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusOK {
				t.Errorf("%s: a client that waits got %d", name, status)
			}
		}
	}

	after := app.Stats()
	if after.Argon2Runs != before.Argon2Runs || after.Entries != before.Entries {
		t.Errorf("it cost %+v, before it was %+v", after, before)
	}
	// The unknown key is asked for once while the answer is remembered, 2 s.
	if reads := after.RowReads - before.RowReads; reads > 100 {
		t.Errorf("%d rows were read", reads)
	}
	eventually(t, "nothing is left of it", func() bool { return runtime.NumGoroutine() <= goroutines+10 })
}

// reset opens so many streams, on a new connection for each few hundred, and
// wherever the server ends one. It returns how many were opened.
func reset(tb testing.TB, address, key string, streams int) (opened int) {
	for attempts := 0; opened < streams && attempts < streams; attempts++ {
		conn, err := net.DialTimeout("tcp", address, answerTimeout)
		if err != nil {
			tb.Error(err)
			return opened
		}
		opened += resetOn(conn, address, key, min(400, streams-opened))
		conn.Close()
	}
	return opened
}

func resetOn(conn net.Conn, address, key string, streams int) (opened int) {
	_ = conn.SetDeadline(time.Now().Add(answerTimeout))
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	framer := http2.NewFramer(conn, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil || framer.WriteSettings() != nil {
		return 0
	}
	for ; opened < streams; opened++ {
		block.Reset()
		for _, f := range []field{
			{":method", "GET"}, {":scheme", "http"}, {":authority", address}, {":path", "/"}, {"authorization", "Bearer " + key},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}) // into memory
		}
		id := uint32(2*opened + 1)
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
	}
	return opened
}
