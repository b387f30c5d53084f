package storetest

import (
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testLabels(t *testing.T, fresh func(tb testing.TB) *Backend) {
	labels := []string{
		"x",
		strings.Repeat("x", store.MaxLabel),
		strings.Repeat("\U0001f642", store.MaxLabel),
		"e\u0301 is not \u00e9",
		"\u200dzero width\u200d joiner",
		"\ufeffbyte order mark",
		"\U0010ffff last of all",
		"\ue000 private",
		`'); DROP TABLE system_keys; --`,
		`"; DELETE FROM system_keys WHERE "a" = "a`,
		`\'; SELECT pg_sleep(10); --`,
		"$1 ? :label @label %s %00",
		"{curly,array} [json] null NULL",
		"\\N",
		"lm_sys_",
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"odd labels come back as they were and are inert": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			for _, label := range labels {
				key := create(t, s, newKey(label))[0]
				same(t, read(t, s, key.ID), key)
				query := store.KeyQuery{Limit: 1, Sort: store.SortLabel, Search: label}
				page := one(t, s, &query)
				if len(page.Keys) == 0 || page.Keys[0].Label != label {
					t.Errorf("the search for %q found %+v", label, page.Keys)
				}
			}
			total(t, s, len(labels))
		},
		"a label that no list could show is not stored": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			for _, label := range []string{"", strings.Repeat("x", store.MaxLabel+1), "NUL \x00 inside"} {
				if err := s.CreateKey(t.Context(), newKey(label), nil); err == nil {
					t.Errorf("label %q was stored", label)
				}
			}
			total(t, s, 0)
		},
		"text that is not an Argon2id hash is not stored": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("clear text")
			key.Hash = store.Hash("lm_sys_" + strings.Repeat("A", 76))
			err := s.CreateKey(t.Context(), key, nil)
			if err == nil {
				t.Fatal("a key was stored in the place of its hash")
			}
			if strings.Contains(err.Error(), string(key.Hash)) {
				t.Error("the error holds the key")
			}
			total(t, s, 0)
		},
	})
}
