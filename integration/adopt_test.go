package integration_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// othersKeys are keys as another service may have minted them; one has the form of
// ours, and no tag.
var othersKeys = []string{
	"lm_sys_k1",
	"lm_sys_9f86d081-884c.7d65_9a2f~eaa0+c55a/d015==",
	"lm_sys_" + strings.Repeat("A", 76),
	"lm_sys_" + strings.Repeat("0123456789abcdef", 16),
}

// adoptKeys are options under which they are accepted.
func (b *backend) adoptKeys() *backend {
	options := b.options + "\nadopt_keys on"
	if !strings.Contains(options, "secret ") {
		options += "\nsecret 0123456789abcdef0123456789abcdef"
	}
	return &backend{name: b.name, options: options, open: b.open, owner: b.owner}
}

// plainSQL runs a statement on the store as another service does.
func (b *backend) plainSQL(tb testing.TB, statement string) {
	tb.Helper()
	if b.owner != "" {
		conn, err := pgx.Connect(tb.Context(), b.owner)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = conn.Close(tb.Context()) }()
		if _, err := conn.Exec(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
		return
	}
	place := strings.Fields(b.options)[2]
	// A deferred transaction is not waited for when it turns into one that writes.
	db, err := sql.Open("sqlite", "file:"+place+"?_pragma=busy_timeout(20000)&_txlock=immediate")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(tb.Context(), statement); err != nil {
		tb.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		tb.Fatal(err)
	}
}

// insert writes the row of a key as another service does.
func (b *backend) insert(tb testing.TB, label, key string) store.ID {
	tb.Helper()
	id := store.ID(uuid.Must(uuid.NewV7()))
	b.plainSQL(tb, inserting(tb, id, label, key))
	return id
}

// inserting is the statement for it.
func inserting(tb testing.TB, id store.ID, label, key string) string {
	tb.Helper()
	return fmt.Sprintf("INSERT INTO system_keys (id, label, key_hash) VALUES ('%s', '%s', '%s')", id, label, hashOf(tb, key))
}

func hashOf(tb testing.TB, key string) string {
	tb.Helper()
	hash, err := phc.Hash(key, phc.Params{Memory: 7 << 10, Iterations: 1, Parallelism: 1})
	if err != nil {
		tb.Fatal(err)
	}
	return hash
}

// TestKeysOfAnotherServiceAreAdopted has rows that another service wrote: not good
// as long as adopt_keys is off, then each searched for once, and after a restart
// found by what was entered.
func TestKeysOfAnotherServiceAreAdopted(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			_, minted := mint(t, keys, "ours")
			ids := make(map[string]store.ID)
			for i, key := range othersKeys {
				ids[key] = b.insert(t, fmt.Sprintf("theirs %d", i), key)
			}
			site := "system_key_auth\nreverse_proxy " + echo(t)
			all := func(address string, want int) {
				t.Helper()
				for _, key := range othersKeys {
					status, header, body := get(t, "http://"+address, "Bearer "+key)
					if status != want || want == http.StatusOK && !strings.Contains(body, "X-Lumio-Key-Id: "+ids[key].String()) {
						t.Errorf("%.20s got %d %v %s", key, status, header, body)
					}
				}
				if status, _, _ := get(t, "http://"+address, "Bearer "+minted); status != http.StatusOK {
					t.Errorf("a key of ours got %d", status)
				}
			}
			all(run(t, b, site), http.StatusUnauthorized)
			if stats := app.Stats(); stats.Argon2Runs != 1 {
				t.Errorf("with adopt_keys off %d computations were made, and one is for our key", stats.Argon2Runs)
			}

			on := b.adoptKeys()
			address := run(t, on, site)
			all(address, http.StatusOK)
			const tries = 4 + 3 + 2 + 1
			stats := app.Stats()
			if stats.SearchRuns < 4 || stats.SearchRuns > tries {
				t.Errorf("the searches made %d computations, want 4 to %d", stats.SearchRuns, tries)
			}
			all(address, http.StatusOK)
			if again := app.Stats(); again.Argon2Runs != stats.Argon2Runs {
				t.Errorf("the second time %d computations were made", again.Argon2Runs-stats.Argon2Runs)
			}
			for _, key := range []string{"lm_sys_k2", "lm_sys_k1=", othersKeys[2][:82] + "B", othersKeys[3] + "0"} {
				if status, _, _ := get(t, "http://"+address, "Bearer "+key); status != http.StatusUnauthorized {
					t.Errorf("%.20s got %d", key, status)
				}
			}

			if err := caddy.Stop(); err != nil { // and all that is remembered goes with it
				t.Fatal(err)
			}
			all(run(t, on, site), http.StatusOK)
			stats = app.Stats()
			if wanted := uint64(5); stats.SearchRuns != 0 || strings.Contains(b.options, "redis") && stats.Argon2Runs != 0 || stats.Argon2Runs > wanted {
				t.Errorf("after a restart the searches made %d of %d computations", stats.SearchRuns, stats.Argon2Runs)
			}
			all(run(t, b, site), http.StatusUnauthorized)
		})
	}
}

// TestAnAdoptedKeyIsLikeAnyOther lists it, acts by it, revokes it by SQL and by the
// API, and cuts its requests.
func TestAnAdoptedKeyIsLikeAnyOther(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			rootKey, bot, other := "lm_sys_root-key", "lm_sys_bot.key", "lm_sys_other/key="
			b.insert(t, "their admin", rootKey)
			b.plainSQL(t, "UPDATE system_keys SET is_system = true")
			botID := b.insert(t, "their bot", bot)
			b.insert(t, "their other bot", other)
			address := run(t, b.adoptKeys(), "system_keys_admin\nsystem_key_auth\nreverse_proxy "+ticks(t))
			status, _, body := get(t, "http://"+address+"/v1/admin/system-keys", "Bearer "+rootKey)
			var list struct{ Data []struct{ Label string } }
			if err := json.Unmarshal([]byte(body), &list); err != nil || status != http.StatusOK || len(list.Data) != 3 {
				t.Fatalf("%d %v %s", status, err, body)
			}
			cutWhile := func(plain string, revoke func()) {
				t.Helper()
				began, ended := make(chan struct{}), make(chan error, 1)
				go stream(address, plain, began, ended)
				<-began
				revoke()
				select {
				case err := <-ended:
					t.Logf("its request ended with %v", err)
				case <-time.After(5 * time.Second):
					t.Error("its request goes on")
				}
				if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusUnauthorized {
					t.Errorf("it got %d", status)
				}
			}
			cutWhile(bot, func() {
				status, _, body := do(t, http.MethodDelete, "http://"+address+"/v1/admin/system-keys/"+botID.String(), "Bearer "+rootKey, nil)
				if status != http.StatusOK || !strings.Contains(body, `"requests_cut":1`) {
					t.Errorf("%d %s", status, body)
				}
			})
			cutWhile(other, func() { b.plainSQL(t, "DELETE FROM system_keys WHERE label = 'their other bot'") })
			cutWhile(rootKey, func() { b.plainSQL(t, "UPDATE system_keys SET minted = true") })
			eventually(t, "the use of a revoked key is on record", func() bool {
				page, err := keys.Store.Audit(t.Context(), &store.AuditQuery{Limit: 10, Event: store.AuditDenied, Key: botID})
				return err == nil && len(page.Records) > 0
			})
		})
	}
}

// TestAnAdoptedKeyFollowsItsRow has another service write its row anew, in all the ways
// that it may, while the client goes on.
func TestAnAdoptedKeyFollowsItsRow(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			b.keys(t)
			key := othersKeys[1]
			id := b.insert(t, "theirs", key)
			on := b.adoptKeys()
			site := "system_key_auth\nreverse_proxy " + echo(t)
			address := run(t, on, site)
			becomes := func(what string, want int, id store.ID) {
				t.Helper()
				eventually(t, what, func() bool {
					status, _, body, err := try(t, http.MethodGet, "http://"+address, "Bearer "+key, nil)
					return err == nil && status == want && (want != http.StatusOK || strings.Contains(body, "X-Lumio-Key-Id: "+id.String()))
				})
			}
			becomes("it is good", http.StatusOK, id)

			b.plainSQL(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s'", hashOf(t, "lm_sys_wrong")))
			becomes("its hash is wrong", http.StatusUnauthorized, id)
			b.plainSQL(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s'", hashOf(t, key)))
			becomes("its hash is right again", http.StatusOK, id)

			b.plainSQL(t, "DELETE FROM system_keys")
			becomes("its row is gone", http.StatusUnauthorized, id)
			b.plainSQL(t, inserting(t, id, "theirs", key))
			becomes("its row is back", http.StatusOK, id)

			moved := store.ID(uuid.Must(uuid.NewV7()))
			b.plainSQL(t, "DELETE FROM system_keys; "+inserting(t, moved, "theirs", key))
			becomes("its row is another", http.StatusOK, moved)

			before := app.Stats().Argon2Runs
			b.plainSQL(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s'", hashOf(t, key)))
			eventually(t, "the new hash is computed, and entered", func() bool {
				becomes("it has a new hash", http.StatusOK, moved)
				return app.Stats().Argon2Runs > before
			})
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			address = run(t, on, site)
			becomes("it is good after a restart", http.StatusOK, moved)
			if n := app.Stats().SearchRuns; n != 0 {
				t.Errorf("after a restart it was searched for, in %d computations", n)
			}
		})
	}
}

// TestAFloodWhileKeysAreAdopted has clients send strings that nobody minted, while
// others have good keys.
func TestAFloodWhileKeysAreAdopted(t *testing.T) {
	b := onSQLite(t)
	_, minted := mint(t, b.keys(t), "ours")
	b.insert(t, "theirs", othersKeys[1])
	const unused, connections, each = 10, 40, 10
	for i := range unused {
		b.insert(t, "unused", fmt.Sprintf("lm_sys_unused-%d", i))
	}
	url := "http://" + run(t, b.adoptKeys(), "system_key_auth\nreverse_proxy "+echo(t))
	good := &flooder{url: url}
	mustBeGood := func() {
		for _, key := range []string{minted, othersKeys[1]} {
			if status := good.send(t, "/", key); status != http.StatusOK {
				t.Errorf("a good key got %d", status)
			}
		}
	}
	mustBeGood()
	before, began := app.Stats(), time.Now()
	var running, busy atomic.Int64
	var wg sync.WaitGroup
	running.Store(connections)
	for n := range connections {
		wg.Go(func() {
			defer running.Add(-1)
			client := &flooder{url: url}
			defer client.transport.CloseIdleConnections()
			for i := range each {
				switch status := client.send(t, "/", fmt.Sprintf("lm_sys_flood-%d-%d", n, i)); status {
				case http.StatusServiceUnavailable:
					busy.Add(1)
				case http.StatusUnauthorized:
				default:
					t.Errorf("a string that nobody minted got %d", status)
				}
			}
		})
	}
	for running.Load() > 0 {
		mustBeGood()
	}
	wg.Wait()
	after := app.Stats()
	searched := 100 + 100*time.Since(began).Seconds()
	if runs := after.Argon2Runs - before.Argon2Runs; float64(runs) > searched*unused || runs != after.SearchRuns-before.SearchRuns {
		t.Errorf("%d computations, %d of them of searches, want %.0f at most", runs, after.SearchRuns-before.SearchRuns, searched*unused)
	}
	if after.Entries != before.Entries || after.RowReads != before.RowReads {
		t.Errorf("it cost %+v, before it was %+v", after, before)
	}
	t.Logf("of %d strings %d met a bound; %d computations", connections*each, busy.Load(), after.Argon2Runs-before.Argon2Runs)
}

// TestAdoptionIsMeasured looks at metrics and status with it on and off.
func TestAdoptionIsMeasured(t *testing.T) {
	b := onSQLite(t)
	b.keys(t)
	b.insert(t, "theirs", othersKeys[0])
	b.insert(t, "unused", othersKeys[1])
	c := controlled{testenv.FreeAddress(t), testenv.FreeAddress(t)}
	load(t, c.caddyfile(b.adoptKeys(), "system_key_auth\nrespond ok"))
	before, _ := c.scrape(t)
	if status, _, _ := get(t, "http://"+c.site, "Bearer "+othersKeys[0]); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
	if status, _, _ := get(t, "http://"+c.site, "Bearer lm_sys_nobody"); status != http.StatusUnauthorized {
		t.Errorf("got %d", status)
	}
	after, text := c.scrape(t)
	for _, outcome := range []string{"search", "none"} {
		if n := value(after, "adoptions_total", "outcome", outcome) - value(before, "adoptions_total", "outcome", outcome); n != 1 {
			t.Errorf("%v outcomes are %s", n, outcome)
		}
	}
	if value(after, "adoption_candidates") != 1 || value(after, "adoption_argon2id_runs_total") < 2 || strings.Contains(text, "lm_sys") {
		t.Errorf("measured is\n%s", ourLines(text))
	}
	if _, body := c.status(t); !strings.Contains(body, `"adoption":{"candidates":1,"searches":0}`) {
		t.Errorf("the status is %s", body)
	}
	load(t, c.caddyfile(b, "system_key_auth\nrespond ok"))
	if _, body := c.status(t); !strings.Contains(body, `"adoption":null`) {
		t.Errorf("with adopt_keys off the status is %s", body)
	}
}

// TestForgedEntriesLetNobodyIn has somebody who writes to the database make the entry
// of one key lead to the row of another.
func TestForgedEntriesLetNobodyIn(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			b.keys(t)
			privileged, lesser := b.insert(t, "privileged", othersKeys[0]), b.insert(t, "lesser", othersKeys[1])
			site := "system_key_auth\nreverse_proxy " + echo(t)
			address := run(t, b.adoptKeys(), site)
			for _, key := range othersKeys[:2] {
				if status, _, _ := get(t, "http://"+address, "Bearer "+key); status != http.StatusOK {
					t.Errorf("%s got %d", key, status)
				}
			}
			s := b.open(t)
			defer func() { _ = s.Close() }()
			row, err := s.Key(t.Context(), privileged)
			if err != nil {
				t.Fatal(err)
			}
			// With the proof of the other's hash, which every reader of the table can make.
			forge := "DELETE FROM adopted_key WHERE key_id = '%[1]s'; UPDATE adopted_key SET era = zeroblob(32), key_id = '%[1]s', key_proof = x'" +
				fmt.Sprintf("%x", sha256.Sum256([]byte(row.Hash))) + "' WHERE key_id = '%[2]s'"
			if strings.HasPrefix(b.options, "store postgres") {
				forge = "WITH one AS (DELETE FROM sidecar.adopted_key WHERE key_id = '%[1]s') UPDATE sidecar.adopted_key SET key_id = k.id, era = '\\x" +
					strings.Repeat("00", 32) + "', key_proof = sha256(convert_to(k.key_hash, 'UTF8')) FROM system_keys k WHERE k.id = '%[1]s' AND key_id = '%[2]s'"
			}
			b.plainSQL(t, fmt.Sprintf(forge, privileged, lesser))
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			address = run(t, b.adoptKeys(), site)
			for range 2 {
				if status, _, body := get(t, "http://"+address, "Bearer "+othersKeys[1]); status != http.StatusUnauthorized {
					t.Errorf("a key whose entry leads to another got %d %s", status, body)
				}
			}
			if status, _, _ := get(t, "http://"+address, "Bearer "+othersKeys[0]); status != http.StatusOK {
				t.Errorf("the other key got %d", status)
			}
		})
	}
}
