package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// foreignKeys is how many keys of another service nobody uses: each string that was
// not minted is tried against all of them.
const foreignKeys = 100

// adoptedKey is one of another service that is used.
const adoptedKey = "lm_sys_a-key.of_another~service"

// startAdopting runs a server with adopt_keys, and a store of its own.
func startAdopting(ctx context.Context, processors string) (*server, error) {
	folder, err := os.MkdirTemp("", "caddy-system-keys-bench-")
	if err != nil {
		return nil, err
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello"))
	}))
	s := &server{stop: func() {
		upstream.Close()
		_ = os.RemoveAll(folder)
	}}
	if err := s.adopt(ctx, folder, upstream.Listener.Addr().String(), processors); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) adopt(ctx context.Context, folder, upstream, processors string) error {
	file, config, address := filepath.Join(folder, "keys.db"), filepath.Join(folder, "Caddyfile"), freeAddress()
	if err := insertForeign(ctx, file); err != nil {
		return err
	}
	create, err := caddy(ctx, folder, "system-keys", "create", "--label", "bench", "--store", "sqlite://"+file)
	if err != nil {
		return err
	}
	key, err := create.Output()
	if err != nil {
		return err
	}
	caddyfile := fmt.Sprintf("{\nadmin off\npersist_config off\nlog {\nlevel FATAL\n}\n"+
		"system_keys {\nstore sqlite %s\nsecret a-secret-of-the-bench\nadopt_keys on\n}\n}\nhttp://%s {\nsystem_key_auth\nreverse_proxy %s\n}\n",
		file, address, upstream)
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		return err
	}
	s.key = string(key[:len(key)-1])
	s.sites = []site{{}, {name: "with adopt_keys", url: "http://" + address + "/"}}
	if s.process, err = caddy(ctx, folder, "run", "--config", config); err != nil {
		return err
	}
	s.process = on(ctx, processors, s.process)
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return err
	}
	cleanUp := s.stop
	s.stop = func() {
		_ = s.process.Process.Signal(syscall.SIGTERM)
		_ = s.process.Wait()
		cleanUp()
	}
	if err := await(ctx, address); err != nil {
		return err
	}
	if err := s.warm(adoptedKey); err != nil {
		return err
	}
	return s.exhaust(ctx)
}

// exhaust has searches spend what they may at once, so that what is measured is what
// goes on for ever. That is enough for a server on one processor.
func (s *server) exhaust(ctx context.Context) error {
	a := s.adoptionFloods(1)[1].assault
	a.Length = 10 * time.Second
	wait, err := a.begin(ctx, floodProcessor)
	if err == nil {
		_, _, err = wait()
	}
	return err
}

// insertForeign writes rows as another service does, at the default cost.
func insertForeign(ctx context.Context, file string) error {
	s, err := sqlite.Open(ctx, file, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // what it has written is committed
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	for i := range foreignKeys + 1 {
		key := adoptedKey
		if i > 0 {
			key = fmt.Sprintf("lm_sys_unused-%d", i)
		}
		hash, err := phc.Hash(key, phc.Default())
		if err != nil {
			return err
		}
		row := &store.Key{
			ID: store.ID(uuid.Must(uuid.NewV7())), Label: "theirs", Hash: store.Hash(hash), CreatedAt: time.Now(), CreatedBy: "bench", Foreign: true,
		}
		if err := s.CreateKey(ctx, row, nil); err != nil {
			return err
		}
	}
	return nil
}

// warm has a key looked up before anything is measured.
func (s *server) warm(key string) error {
	w, err := dialWire(s.address(), time.Now().Add(10*time.Second))
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	status, err := w.send(request(s.address(), "/", key))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the adopted key got %d", status)
	}
	return err
}

// adoptionFloods are those of unminted keys, at a server that searches for them.
func (s *server) adoptionFloods(rate int) []floodKind {
	strings := make([]string, floodCredentials)
	for i := range strings {
		strings[i] = unminted()
	}
	fast := assault{Address: s.address(), Path: "/", Credentials: strings, Connections: floodConnections, Unavailable: true}
	slow := fast
	slow.Pause = time.Second * floodConnections / time.Duration(rate)
	name := func(flood, client string) string { return flood + ", adopt_keys" + client }
	return []floodKind{
		{name: name("none", ""), address: s.address(), server: s},
		{name: name("(b) unminted keys", ""), address: s.address(), assault: fast, server: s},
		{name: name("(b) unminted", ", adopted client"), address: s.address(), assault: fast, server: s, key: adoptedKey},
		{name: name(fmt.Sprintf("(b) unminted, %d a second", rate), ""), address: s.address(), assault: slow, server: s},
		{name: name(fmt.Sprintf("(b) %d a second", rate), ", adopted client"), address: s.address(), assault: slow, server: s, key: adoptedKey},
	}
}
