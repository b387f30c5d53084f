package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestANetworkThatCannotBeReadContainsNobody: the key stays in the lists, so that it can be
// found and deleted.
func TestANetworkThatCannotBeReadContainsNobody(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := &store.Key{
		ID: store.ID{1}, Label: "by hand", Hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", CreatedAt: time.Unix(1_800_000_000, 0),
	}
	if err := s.CreateKey(t.Context(), key, nil); err != nil {
		t.Fatal(err)
	}
	for written, want := range map[string][]string{
		`["::ffff:10.0.0.0/104", "10.1.2.3/8"]`:        {"10.0.0.0/8"},
		`["office"]`:                                   {"invalid Prefix"},
		`["office", "10.0.0.0/8", "", "fe80::1%eth0"]`: {"invalid Prefix", "10.0.0.0/8"},
		`[null]`:       {"invalid Prefix"},
		`[10, {}, []]`: {"invalid Prefix"},
		`[]`:           {},
	} {
		execute(t, path, "UPDATE system_keys SET networks = '"+written+"'")
		got, err := s.Key(t.Context(), key.ID)
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		if diff := cmp.Diff(want, got.Networks.Strings()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", written, diff)
		}
		if open := len(want) == 0; got.Networks.Allow("192.0.2.1") != open || got.Networks.Allow("") != open {
			t.Errorf("%s lets a client in that it should not, or refuses one", written)
		}
		page, err := s.Keys(t.Context(), &store.KeyQuery{Limit: 1, Sort: store.SortLabel})
		if err != nil || len(page.Keys) != 1 {
			t.Errorf("%s: the list is %+v, %v", written, page, err)
		}
	}
	for _, refused := range []string{"", "office", `"10.0.0.0/8"`, "{}", "null", "[", `["10.0.0.0/8","","","","","","","","","","","","","","","",""]`} {
		if _, err := raw(t, path).Exec("UPDATE system_keys SET networks = '" + refused + "'"); err == nil {
			t.Errorf("%s was written", refused)
		}
	}
}

// TestAPermissionThatIsNoTextGrantsNothing has another program write what is no list of words.
// The key and the list can still be read.
func TestAPermissionThatIsNoTextGrantsNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := &store.Key{ID: store.ID{1}, Label: "by hand", Hash: "$argon2id$", CreatedAt: time.Unix(1_800_000_000, 0)}
	if err := s.CreateKey(t.Context(), key, nil); err != nil {
		t.Fatal(err)
	}
	for written, want := range map[string][]string{
		`[1, "bots:read", null, {}, "chat:write"]`: {"bots:read", "chat:write"},
		`[[], true]`:                  {},
		`["bots:read", 1e999, "x:y"]`: {"bots:read", "x:y"}, // no number of Go
		`[]`:                          {},
	} {
		execute(t, path, "UPDATE system_keys SET permissions = '"+written+"'")
		page, err := s.Keys(t.Context(), &store.KeyQuery{Limit: 1, Sort: store.SortLabel})
		if err != nil || len(page.Keys) != 1 {
			t.Fatalf("%s: the list is %+v, %v", written, page, err)
		}
		if diff := cmp.Diff(want, page.Keys[0].Permissions); diff != "" {
			t.Errorf("%s (-want +got):\n%s", written, diff)
		}
	}
}
