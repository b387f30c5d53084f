package command_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const adoptSecret = "0123456789abcdef0123456789abcdef"

// configure writes a configuration with the store, and returns its name.
func (m *moveIn) configure(options string) string {
	m.tb.Helper()
	where := "postgres {env.OURS}"
	if file, ok := strings.CutPrefix(m.store, "sqlite://"); ok {
		where = "sqlite " + file
	}
	name := filepath.Join(m.tb.TempDir(), "Caddyfile")
	text := "{\n\tsystem_keys {\n\t\tstore " + where + "\n\t\tsecret " + adoptSecret + "\n\t\t" + options + "\n\t}\n}\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		m.tb.Fatal(err)
	}
	return name
}

// insert writes the rows of another service's keys, and returns their ids by key.
func (m *moveIn) insert(keys map[string]func(*store.Key)) map[string]store.ID {
	m.tb.Helper()
	ids := make(map[string]store.ID)
	var rows []store.Key
	for plain, edit := range keys {
		key := store.Key{
			ID: store.ID(uuid.Must(uuid.NewV7())), Label: "row of " + strings.TrimPrefix(plain, "lm_sys_"), CreatedBy: "sql",
			CreatedAt: time.Now().UTC().Truncate(time.Microsecond), Foreign: true,
			Hash: hashOf(m.tb, plain, phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}),
		}
		if edit != nil {
			edit(&key)
		}
		ids[plain], rows = key.ID, append(rows, key)
	}
	if err := m.open().AddKeys(context.WithoutCancel(m.tb.Context()), func(add func([]store.Key) error) error { return add(rows) }); err != nil {
		m.tb.Fatal(err)
	}
	return ids
}

func hashOf(tb testing.TB, key string, params phc.Params) store.Hash {
	tb.Helper()
	hash, err := phc.Hash(key, params)
	if err != nil {
		tb.Fatal(err)
	}
	return store.Hash(hash)
}

// adopt runs the command with lines on its standard input and without a terminal.
func (m *moveIn) adopt(want int, lines []string, args ...string) (stdout, stderr string) {
	m.tb.Helper()
	cmd := m.command(append([]string{"adopt"}, args...)...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	_ = cmd.Run() // its status is looked at
	if status := cmd.ProcessState.ExitCode(); status != want {
		m.tb.Errorf("it ended with %d, want %d:\n%s%s", status, want, &out, &said)
	}
	if all := out.String() + said.String(); strings.Contains(all, "lm_sys_") || strings.Contains(all, "$argon2") {
		m.tb.Errorf("it shows a secret:\n%s", all)
	}
	return out.String(), said.String()
}

// entered returns the key that servers find for a string, or the zero id.
func (m *moveIn) entered(plain string) store.ID {
	m.tb.Helper()
	found, err := m.open().Adopted(m.tb.Context(), token.ForeignDigests([][]byte{[]byte(adoptSecret)}, plain))
	if err != nil {
		return store.ID{}
	}
	return found.ID
}

func TestKeysAreAdoptedByThemselves(t *testing.T) {
	t.Parallel()
	moveIns(t, func(t *testing.T, m *moveIn) {
		config := m.configure("adopt_keys on")
		ids := m.insert(map[string]func(*store.Key){
			"lm_sys_direct": nil, "lm_sys_searched": nil, "lm_sys_untouched": nil,
			"lm_sys_late":     func(k *store.Key) { k.ExpiresAt = k.CreatedAt },
			"lm_sys_ours":     func(k *store.Key) { k.Foreign = false },
			"lm_sys_unusable": func(k *store.Key) { k.Hash = "$argon2id$v=19$m=999999,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA" },
			"lm_sys_large": func(k *store.Key) {
				k.Hash = hashOf(t, "lm_sys_large", phc.Params{Memory: 257 << 10 >> 1, Iterations: 1, Parallelism: 1})
			},
		})
		out, said, status := m.run("create", "--label", "minted", "--store", m.store)
		if status != 0 {
			t.Fatal(said)
		}
		minted := strings.TrimSpace(out)
		nobody := "0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a"
		lines := []string{
			ids["lm_sys_direct"].String() + "\tlm_sys_direct",
			"lm_sys_searched",
			"",
			"lm_sys_nobody",
			"hello",
			nobody + "\tlm_sys_direct2",
			ids["lm_sys_late"].String() + "\tlm_sys_late",
			minted,
			ids["lm_sys_ours"].String() + "\tlm_sys_ours",
			ids["lm_sys_untouched"].String() + "\tlm_sys_direct3",
			"not-an-id\tlm_sys_direct",
			"lm_sys_" + strings.Repeat("x", 5000),
			"lm_sys_with\x00nul",
			ids["lm_sys_unusable"].String() + "\tlm_sys_unusable",
			"lm_sys_direct\r",
		}
		id := func(key string) string { return ids[key].String() }
		want := []string{
			"LINE  ID  LABEL  RESULT",
			"1  " + id("lm_sys_direct") + "  row of direct  adopted",
			"2  " + id("lm_sys_searched") + "  row of searched  adopted",
			"4  —  —  no row",
			"5  —  —  malformed",
			"6  " + nobody + "  —  no row",
			"7  " + id("lm_sys_late") + "  row of late  expired",
			"8  —  —  minted here",
			"9  " + id("lm_sys_ours") + "  row of ours  minted here",
			"10  " + id("lm_sys_untouched") + "  row of untouched  the row has the hash of another key",
			"11  —  —  malformed",
			"12  —  —  malformed",
			"13  —  —  malformed",
			"14  " + id("lm_sys_unusable") + "  row of unusable  the row has a hash that cannot be used",
			"15  " + id("lm_sys_direct") + "  row of direct  adopted already",
			"14 line(s): 3 adopted, now or before, 11 not",
		}
		out, said = m.adopt(1, lines, "--yes", "--config", config)
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, blanks.ReplaceAllString(strings.TrimSpace(line), "  "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s%s", diff, said)
		}
		if !strings.Contains(said, "2 key(s) without an id are tried against 3 row(s): up to 6 hash(es)") || !strings.Contains(said, "11 of 14 line(s) were not adopted") {
			t.Errorf("it said\n%s", said)
		}
		for plain, want := range map[string]store.ID{
			"lm_sys_direct": ids["lm_sys_direct"], "lm_sys_searched": ids["lm_sys_searched"],
			"lm_sys_untouched": {}, "lm_sys_late": {}, "lm_sys_ours": {}, "lm_sys_nobody": {},
		} {
			if got := m.entered(plain); got != want {
				t.Errorf("%s is entered for %v, want %v", plain, got, want)
			}
		}
		out, _ = m.adopt(0, lines[:2], "--yes", "--json", "--config", config)
		if want := fmt.Sprintf(`{"line":1,"id":"%s","label":"row of direct","result":"adopted already"}`, ids["lm_sys_direct"]); !strings.HasPrefix(out, want+"\n") ||
			strings.Count(out, "adopted already") != 2 {
			t.Errorf("again it said\n%s", out)
		}
		// Somebody who writes to the database has the entry of one key lead to another row.
		other, err := m.open().Key(t.Context(), ids["lm_sys_untouched"])
		if err != nil {
			t.Fatal(err)
		}
		secrets := [][]byte{[]byte(adoptSecret)}
		if err := m.open().Adopt(t.Context(), &store.AdoptedKey{
			Digest: token.ForeignDigests(secrets, "lm_sys_direct")[0], Era: token.ForeignEras(secrets)[0], Key: other.ID, Hash: other.Hash,
		}); err != nil {
			t.Fatal(err)
		}
		out, _ = m.adopt(0, []string{"lm_sys_direct"}, "--yes", "--json", "--config", config)
		if m.entered("lm_sys_direct") != ids["lm_sys_direct"] || !strings.Contains(out, id("lm_sys_direct")) {
			t.Errorf("with a forged entry it said %s", out)
		}
		// Less memory, and a hash that needs more.
		small := m.configure("argon2id 7MiB 1 1\n\t\thash_memory 100MiB")
		out, said = m.adopt(1, []string{id("lm_sys_large") + "\tlm_sys_large", "lm_sys_large"}, "--yes", "--config", small)
		if strings.Count(out, "the hash needs more memory than hash_memory") != 1 || !strings.Contains(said, "2 row(s) are not tried") || !strings.Contains(said, "when the configuration has adopt_keys on") {
			t.Errorf("of a large hash it said\n%s%s", out, said)
		}
		m.adopt(0, []string{"lm_sys_large"}, "--yes", "--config", config)
	})
}

func TestAdoptAsksBeforeItSearches(t *testing.T) {
	t.Parallel()
	m := intoSQLite(t)
	config := m.configure("adopt_keys on")
	ids := m.insert(map[string]func(*store.Key){"lm_sys_direct": nil, "lm_sys_searched": nil})
	lines := []string{ids["lm_sys_direct"].String() + "\tlm_sys_direct", "lm_sys_searched"}

	if _, said := m.adopt(2, lines, "--config", config); !strings.Contains(said, "nobody can be asked") {
		t.Errorf("without a terminal it said %s", said)
	}
	if m.entered("lm_sys_direct") != (store.ID{}) {
		t.Error("it adopted before it could ask")
	}
	// On a terminal the answer does not come from the keys.
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(answer string) string {
		cmd := exec.CommandContext(t.Context(), "script", "-qec", "caddy system-keys adopt --config "+config+" < "+keys, "/dev/null")
		cmd.Env, cmd.Stdin = m.command().Env, strings.NewReader(answer+"\n")
		output, _ := cmd.CombinedOutput() // its text is looked at
		return string(output)
	}
	if said := ask("n"); !strings.Contains(said, "Go on? [y/N]") || !strings.Contains(said, "not searched for") || m.entered("lm_sys_searched") != (store.ID{}) {
		t.Errorf("after a no it said\n%s", said)
	}
	if m.entered("lm_sys_direct") != ids["lm_sys_direct"] {
		t.Error("the line with an id waits for the answer")
	}
	if said := ask("y"); !strings.Contains(said, "2 adopted") || m.entered("lm_sys_searched") != ids["lm_sys_searched"] {
		t.Errorf("after a yes it said\n%s", said)
	}
}

func TestAdoptNeedsTheSecretAndKeys(t *testing.T) {
	t.Parallel()
	m := intoSQLite(t)
	config := m.configure("adopt_keys on")
	if _, said := m.adopt(2, []string{"lm_sys_a"}, "--yes", "--store", m.store); !strings.Contains(said, "--config") {
		t.Errorf("with --store it said %s", said)
	}
	if _, said := m.adopt(2, nil, "--yes", "--config", config); !strings.Contains(said, "standard input is empty") {
		t.Errorf("without keys it said %s", said)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.ReplaceAll(text, []byte("secret "+adoptSecret), nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said := m.adopt(1, []string{"lm_sys_a"}, "--yes", "--config", config); !strings.Contains(said, "secret") {
		t.Errorf("without a secret it said %s", said)
	}
}
