package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// granting are keys of growing age, each with these permissions.
func granting(permissions ...[]string) []*store.Key {
	var keys []*store.Key
	for i, p := range permissions {
		key := newKey(fmt.Sprint(i))
		key.Permissions, key.CreatedAt = p, epoch.Add(-time.Duration(i)*time.Second)
		keys = append(keys, key)
	}
	return keys
}

func testGranted(t *testing.T, fresh func(tb testing.TB) *Backend) {
	granted := func(t *testing.T, s store.Store, keys int, want ...string) {
		t.Helper()
		got, err := s.Granted(t.Context(), keys)
		must(t, err)
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("of %d keys: the permissions in use differ (-want +got):\n%s", keys, diff)
		}
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"each permission is there once, in the order of its bytes": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, granting([]string{"b:read", "a:read"}, []string{}, []string{"a:read", "a-b:read", "a0:read"})...)
			granted(t, s, 100, "a-b:read", "a0:read", "a:read", "b:read")
		},
		"the newest keys count": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := granting([]string{"new:x"}, []string{"middle:x"}, []string{"old:x"})
			create(t, s, keys[1], keys[2], keys[0])
			granted(t, s, 2, "middle:x", "new:x")
			granted(t, s, 1, "new:x")
			granted(t, s, 0)
			granted(t, s, -1)
		},
		"without keys there is none": func(t *testing.T, b *Backend) { granted(t, migrated(t, b), 10) },
		"there are five hundred at most": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			var all []string
			for i := range 10 {
				var some []string
				for j := range 60 {
					some = append(some, fmt.Sprintf("r%d:a%d", i, j))
				}
				all = append(all, some...)
				create(t, s, granting(some)...)
			}
			slices.Sort(all)
			granted(t, s, 100, all[:store.MaxGranted]...)
		},
	})
}
