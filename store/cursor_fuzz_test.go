package store_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// FuzzDecodeCursor holds that what is taken for a cursor is of the list that was
// asked for, can be handed to a database, and is the same after another turn.
func FuzzDecodeCursor(f *testing.F) {
	key := &store.Key{ID: store.ID{1, 2, 3}, Label: "Bot \"x\" é", CreatedAt: time.UnixMicro(1234567).UTC()}
	sorts := []store.SortField{store.SortCreatedAt, store.SortLabel, store.SortLastUsedAt, "hash"}
	for i, sort := range sorts {
		f.Add(store.CursorAt(key, sort, false).Encode(), byte(i), false)
		f.Add(store.CursorAt(key, sort, true).Encode(), byte(i), true)
	}
	const none = "i=00000000-0000-0000-0000-000000000000&"
	for _, raw := range []string{
		none + "l=%00&s=label", none + "s=created_at&t=9223372036854775807", none + "s=created_at&t=-9223372036854775808", none + "l=%FF&s=label",
		none + "s=label", none + "S=label", none + "s=label&s=created_at", none + "d=0&s=label", none + "l=%41&s=label", "s=label", `{"s":"label"}`,
	} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(raw)), byte(1), false)
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(raw)), byte(0), false)
	}
	f.Fuzz(func(t *testing.T, text string, number byte, desc bool) {
		sort := sorts[int(number)%len(sorts)]
		c, err := store.DecodeCursor(text, sort, desc)
		if err != nil {
			if c != nil || !errors.Is(err, store.ErrBadCursor) {
				t.Errorf("%q gave %+v, %v", text, c, err)
			}
			return
		}
		if c.Sort != sort || c.Desc != desc {
			t.Errorf("%q was taken for one by %q: %+v", text, sort, c)
		}
		if strings.Contains(c.Label, "\x00") || !utf8.ValidString(c.Label) {
			t.Errorf("%q has the label %q", text, c.Label)
		}
		if year := time.UnixMicro(c.At).UTC().Year(); year < 1 || year > 9999 {
			t.Errorf("%q is in the year %d", text, year)
		}
		again, err := store.DecodeCursor(c.Encode(), sort, desc)
		if err != nil {
			t.Fatalf("%q: %v after another turn", text, err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Error(diff)
		}
	})
}
