package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// doomed is set in a process that is going to be killed: the store on which it
// creates and revokes keys until then. doomedAt says when it is to be killed.
const (
	doomed   = "SYSTEM_KEYS_TEST_DOOMED"
	doomedAt = "SYSTEM_KEYS_TEST_DOOMED_AT"
)

// The moments shortly after which a process is killed.
const (
	atCreated  = "created"
	atRevoking = "revoking"
	atRevoked  = "revoked"
	atMany     = "revoking many"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(doomed); dsn != "" {
		work(dsn)
	}
	os.Exit(m.Run())
}

var crashSecret = []byte("0123456789abcdef0123456789abcdef")

func openStore(ctx context.Context, dsn string) (store.Store, error) {
	if strings.HasPrefix(dsn, "postgres://") {
		return postgres.Open(ctx, dsn, postgres.Options{})
	}
	return sqlite.Open(ctx, dsn, sqlite.Options{})
}

func serviceOn(ctx context.Context, s store.Store) (*admin.Service, error) {
	mintKey, err := s.MintKey(ctx)
	return &admin.Service{
		Store:   s,
		Minter:  token.New(mintKey),
		Hash:    hashing.NewSlots(phc.Params{Memory: 8, Iterations: 1, Parallelism: 1}, 8<<10).Hash,
		Revoker: coherence.NewRevoker(s, time.Now, slog.New(slog.DiscardHandler)),
		Sealer:  audit.NewSealer(crashSecret),
		Now:     time.Now,
	}, err
}

// work creates keys, and revokes one of three, for ever. It says so when it gets to
// the moment at which it is to be killed.
func work(dsn string) {
	ctx := context.Background()
	s, err := openStore(ctx, dsn)
	if err != nil {
		panic(err)
	}
	service, err := serviceOn(ctx, s)
	if err != nil {
		panic(err)
	}
	var once sync.Once
	reached := func(moment string) {
		if moment == os.Getenv(doomedAt) {
			once.Do(func() { fmt.Println("ready") })
		}
	}
	if os.Getenv(doomedAt) == atMany {
		workOnMany(ctx, service, reached)
	}
	for range 3 {
		go func() {
			for i := 0; ; i++ {
				key, _, err := service.Create(ctx, admin.CLI(), admin.NewKey{Label: "doomed", Permissions: []string{"a:b"}})
				if err != nil {
					panic(err)
				}
				reached(atCreated)
				if i%3 == 0 {
					reached(atRevoking)
					if _, err := service.Revoke(ctx, admin.CLI(), key.ID); err != nil {
						panic(err)
					}
					reached(atRevoked)
				}
			}
		}()
	}
	select {}
}

// TestAKeyAndItsRecordAreThereOrNot kills processes that create and revoke keys, and
// looks for a key without its record or a record without its key. The chain must have
// been left whole, too.
func TestAKeyAndItsRecordAreThereOrNot(t *testing.T) {
	t.Parallel()
	kills := 150 // on each store
	if os.Getenv("SOAK") != "" {
		kills = 600
	}
	unraced := filepath.Join(t.TempDir(), "unraced")
	if err := testenv.Unraced(unraced); err != nil {
		t.Fatal(err)
	}
	for name, dsn := range map[string]string{
		"sqlite": filepath.Join(t.TempDir(), "keys.db"), "postgres": testenv.Database(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := openStore(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			var left sync.WaitGroup
			rounds := make(chan string, kills)
			for n := range kills {
				rounds <- []string{atCreated, atRevoking, atRevoked}[n%3]
			}
			close(rounds)
			// Two processes at a time. Those without the race detector start several times as fast.
			for _, program := range []string{os.Args[0], unraced} {
				left.Go(func() {
					for moment := range rounds {
						if err := killOne(program, dsn, moment); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			left.Wait()
			compareWithLog(t, s, kills)
		})
	}
}

// killOne starts a process and kills it shortly after the moment.
func killOne(program, dsn, moment string) error {
	cmd := exec.Command(program, "-test.run=^$")
	cmd.Env = append(os.Environ(), doomed+"="+dsn, doomedAt+"="+moment)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		time.Sleep(rand.N(40 * time.Millisecond))
	}
	_ = cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if line != "ready\n" || complaints.Len() > 0 {
		return fmt.Errorf("the process said %q and %s", line, complaints.String())
	}
	return nil
}

func compareWithLog(t *testing.T, s store.Store, kills int) {
	t.Helper()
	present := map[store.ID]bool{}
	for query := (store.KeyQuery{Limit: store.MaxLimit, Sort: store.SortCreatedAt}); ; {
		page, err := s.Keys(t.Context(), &query)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Keys {
			present[page.Keys[i].ID] = true
		}
		if query.After = page.Next; page.Next == nil {
			break
		}
	}
	created, revoked := recorded(t, s, store.AuditCreated), recorded(t, s, store.AuditRevoked)
	for _, id := range slices.Collect(maps.Keys(present)) {
		if !created[id] || revoked[id] {
			t.Errorf("key %s is there, and recorded as created %v, revoked %v", id, created[id], revoked[id])
		}
	}
	for id := range created {
		if present[id] == revoked[id] {
			t.Errorf("key %s is recorded as created, as revoked %v, and is there %v", id, revoked[id], present[id])
		}
	}
	report, err := audit.Verify(t.Context(), s, [][]byte{crashSecret})
	if err != nil || !report.OK(true) || report.Unsealed != 0 {
		t.Errorf("the log does not verify: %+v, %v", report, err)
	}
	if len(created) < kills || len(revoked) < kills/3 { // each process has made one at least, a third has revoked one
		t.Errorf("only %d keys were created and %d revoked: nothing was tried", len(created), len(revoked))
	}
	t.Logf("%d created, %d revoked, %d left", len(created), len(revoked), len(present))
}

// recorded are the keys of all records of an event.
func recorded(t *testing.T, s store.Store, event store.AuditEvent) map[store.ID]bool {
	t.Helper()
	keys := map[store.ID]bool{}
	for query := (store.AuditQuery{Limit: store.MaxAuditLimit, Event: event}); ; {
		page, err := s.Audit(t.Context(), &query)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Records {
			id := page.Records[i].Key.ID
			if keys[id] {
				t.Errorf("%s of %s is recorded twice", event, id)
			}
			keys[id] = true
		}
		if query.Before = page.Next; page.Next == (store.ID{}) {
			return keys
		}
	}
}
