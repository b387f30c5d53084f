package integration_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// movedKeys is how many keys are moved, in batches of 500; each is used afterwards.
func movedKeys() int {
	if soak() {
		return 10_000
	}
	return 600 // more than a batch
}

// moveSecret is the secret of both installations.
const moveSecret = "0123456789abcdef0123456789abcdef"

// TestKeysMoveFromSQLiteToPostgres moves them by the command, and
// compares every row and uses every key after it.
func TestKeysMoveFromSQLiteToPostgres(t *testing.T) {
	from, to := onSQLite(t), onPostgres(t)
	from.options += "\nsecret " + moveSecret
	keys := from.keys(t)
	keys.Sealer = audit.NewSealer([]byte(moveSecret))
	all := mintMany(t, keys, movedKeys())
	system, systemKey, used := mintKinds(t, keys, all)

	// A server leaves its marks, and ends.
	log := filepath.Join(t.TempDir(), "log")
	address := runLogged(t, from, log)
	status, _, _ := do(t, http.MethodPost, "http://"+address, "Bearer "+used, strings.NewReader("{}"))
	if status != http.StatusOK {
		t.Fatalf("before the move: %d", status)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	before := snapshotOf(t, keys.Store)

	output := moveByCommand(t, strings.Fields(from.options)[2], to.owner)
	if !strings.Contains(output, fmt.Sprintf("Moved %d key(s)", len(before.keys))) {
		t.Errorf("the command said\n%s", output)
	}
	tellsNothing(t, "the command", output, all)

	moved := to.keys(t)
	sameSnapshot(t, "the new store", before, snapshotOf(t, moved.Store))
	sameSnapshot(t, "the old store", before, snapshotOf(t, keys.Store))
	if len(before.keys) != movedKeys()+2 || len(before.records) < 5 || len(before.chains) != 2 {
		t.Errorf("there were %d keys, %d records and %d chains", len(before.keys), len(before.records), len(before.chains))
	}
	verifies(t, moved.Store)

	address = runLogged(t, to, log)
	useAll(t, "http://"+address, all)
	status, _, body := get(t, "http://"+address+"/v1/admin/system-keys/"+system.ID.String(), "Bearer "+systemKey)
	if status != http.StatusOK || !strings.Contains(body, `"is_system":true`) {
		t.Errorf("the system admin's key: %d %s", status, body)
	}
	// The chain of changes goes on.
	if status, _, body := do(t, http.MethodDelete, "http://"+address+"/v1/admin/system-keys/"+system.ID.String(),
		"Bearer "+systemKey, nil); status != http.StatusOK {
		t.Errorf("a revocation: %d %s", status, body)
	}
	if status, _, _ := get(t, "http://"+address, "Bearer "+systemKey); status != http.StatusUnauthorized {
		t.Errorf("a key that was revoked after the move: %d", status)
	}
	verifies(t, moved.Store)

	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	logged, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(logged), "handled request"); n < movedKeys() {
		t.Errorf("only %d requests were logged", n)
	}
	tellsNothing(t, "the log", string(logged), all)
}

// runLogged is run with all that Caddy can log, in a file.
func runLogged(t *testing.T, b *backend, log string) (address string) {
	t.Helper()
	address = testenv.FreeAddress(t)
	options := strings.Replace(globals(b.options+"\n"+cheap), "output discard", "output file "+log+"\nlevel DEBUG", 1)
	load(t, options+fmt.Sprintf("http://%s {\nlog\nsystem_keys_admin\nsystem_key_auth\nreverse_proxy %s\n}\n", address, echo(t)))
	return address
}

// secretPart is the shortest that the random part of a key can be read as.
var secretPart = regexp.MustCompile("[0-9A-Za-z]{43,}")

// tellsNothing looks for every key in a text, with and without what is before its
// random part, and for hashes.
func tellsNothing(t *testing.T, what, text string, all map[string]int) {
	t.Helper()
	const before, random = len("lm_sys_") + 22, 43
	secrets := make(map[string]bool, len(all))
	for plain := range all {
		secrets[plain[before:before+random]] = true
	}
	for _, run := range secretPart.FindAllString(text, -1) {
		for i := range len(run) - random + 1 {
			if secrets[run[i:i+random]] {
				t.Fatalf("%s showed a key", what)
			}
		}
	}
	for _, trace := range []string{"lm_sys_", "$argon2"} {
		if i := strings.Index(text, trace); i >= 0 {
			t.Errorf("%s has %q after %q", what, trace, text[max(0, i-100):i])
		}
	}
}

// mintMany makes keys without a record each, and returns what each is answered.
func mintMany(t *testing.T, keys *admin.Service, n int) map[string]int {
	t.Helper()
	all, rows := make(map[string]int, n), make([]store.Key, 0, n)
	start := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour)
	for i := range n {
		key := store.Key{
			ID: store.NewAuditID(start.Add(time.Duration(i) * time.Millisecond)), Label: fmt.Sprintf("worker %d é%%", i),
			Permissions: []string{}, CreatedAt: start, CreatedBy: "test",
		}
		want := http.StatusOK
		if i%2 == 0 {
			key.Permissions = []string{"bots:read", "bots:write"}
		}
		if i%3 == 0 {
			key.LastUsedAt = start.Add(time.Duration(i) * time.Microsecond)
		}
		switch i % 5 {
		case 0:
			key.ExpiresAt = start.Add(24 * time.Hour)
		case 1:
			key.ExpiresAt, want = start.Add(time.Minute), http.StatusUnauthorized
		}
		var secret [32]byte
		_, _ = rand.Read(secret[:])
		plain := keys.Minter.Mint(key.ID, secret)
		var err error
		if key.Hash, err = keys.Hash(t.Context(), plain); err != nil {
			t.Fatal(err)
		}
		all[plain], rows = want, append(rows, key)
	}
	if err := keys.Store.Import(t.Context(), func(r store.Recipient) error { return r.Keys(t.Context(), rows) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// mintKinds makes keys as the command line does: a system admin's, one to be
// used and one that is revoked. It enters the latter two.
func mintKinds(t *testing.T, keys *admin.Service, all map[string]int) (system *store.Key, systemKey, used string) {
	t.Helper()
	system, systemKey, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "admin", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	_, used = mint(t, keys, "bot", "bots:read")
	gone, plain := mint(t, keys, "gone", "bots:read")
	if _, err := keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
		t.Fatal(err)
	}
	all[used], all[plain] = http.StatusOK, http.StatusUnauthorized
	return system, systemKey, used
}

// moveByCommand runs the real command in a process of its own, and returns all
// that it wrote.
func moveByCommand(t *testing.T, file, dsn string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), "system-keys", "migrate", "--from", "sqlite://"+file, "--to", "{env.NEW}")
	cmd.Env = append(os.Environ(), asCaddy+"=1", "NEW="+dsn)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

// useAll makes one request with each key.
func useAll(t *testing.T, url string, all map[string]int) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	defer transport.CloseIdleConnections()
	var group errgroup.Group
	group.SetLimit(4)
	for plain, want := range all {
		group.Go(func() error {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			if err != nil {
				return err
			}
			request.Header.Set("Authorization", "Bearer "+plain)
			response, err := transport.RoundTrip(request)
			if err != nil {
				return err
			}
			if err := response.Body.Close(); err != nil {
				return err
			}
			if response.StatusCode != want {
				return fmt.Errorf("a key got %d, want %d", response.StatusCode, want)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// snapshot is a [store.Recipient] that remembers, hashes by their digest alone.
type snapshot struct {
	mintKey store.MintKey
	keys    []store.Key
	hashes  [][32]byte
	chains  []store.AuditChain
	records []store.AuditRecord
}

func (s *snapshot) MintKey(_ context.Context, key store.MintKey) error {
	s.mintKey = key
	return nil
}

func (s *snapshot) Keys(_ context.Context, keys []store.Key) error {
	for _, key := range keys {
		s.hashes = append(s.hashes, sha256.Sum256([]byte(key.Hash)))
		key.Hash = ""
		s.keys = append(s.keys, key)
	}
	return nil
}

func (s *snapshot) Chains(_ context.Context, chains []store.AuditChain) error {
	s.chains = append(s.chains, chains...)
	return nil
}

func (s *snapshot) Records(_ context.Context, records []store.AuditRecord) error {
	s.records = append(s.records, records...)
	return nil
}

func snapshotOf(t *testing.T, s store.Store) *snapshot {
	t.Helper()
	var all snapshot
	if err := s.Export(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	return &all
}

func sameSnapshot(t *testing.T, what string, want, got *snapshot) {
	t.Helper()
	if want.mintKey != got.mintKey {
		t.Errorf("%s: the mint key is another", what)
	}
	if !slices.Equal(want.hashes, got.hashes) {
		t.Errorf("%s: a hash is another", what)
	}
	for kind, both := range map[string][2]any{
		"keys": {want.keys, got.keys}, "chains": {want.chains, got.chains}, "records": {want.records, got.records},
	} {
		if diff := cmp.Diff(both[0], both[1], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: the %s differ (-before +after):\n%s", what, kind, diff)
		}
	}
}

func verifies(t *testing.T, s store.Store) {
	t.Helper()
	report, err := audit.Verify(t.Context(), s, [][]byte{[]byte(moveSecret)})
	if err != nil || !report.OK(true) {
		t.Errorf("the audit log does not verify: %+v, %v", report, err)
	}
}
