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

func TestCursorRoundTrip(t *testing.T) {
	t.Parallel()
	key := &store.Key{
		ID: store.ID{1, 2, 3}, Permissions: []string{"a:read", "b:read"}, Label: "Bot \"x\" é&l=%00+[{", CreatedAt: time.UnixMicro(1234567).UTC(), LastUsedAt: time.UnixMicro(7654321).UTC(), ExpiresAt: time.Unix(0, 0).UTC(),
	}
	for _, field := range []store.SortField{store.SortCreatedAt, store.SortLabel, store.SortLastUsedAt, store.SortExpiresAt, store.SortPermissions} {
		for _, desc := range []bool{false, true} {
			want := store.CursorAt(key, field, desc)
			got, err := store.DecodeCursor(want.Encode(), field, desc)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := store.DecodeCursor(want.Encode(), field, !desc); !errors.Is(err, store.ErrBadCursor) {
				t.Errorf("%s: the cursor of the other direction: %v", field, err)
			}
		}
	}
	never := store.CursorAt(&store.Key{}, store.SortLastUsedAt, false)
	if never.At != 0 {
		t.Errorf("never used is at %d", never.At)
	}
	endless := store.CursorAt(&store.Key{}, store.SortExpiresAt, false)
	if _, err := store.DecodeCursor(endless.Encode(), store.SortExpiresAt, false); endless.At != store.NeverExpires || err != nil {
		t.Errorf("never expires is at %d: %v", endless.At, err)
	}
}

func TestWhatIsNoCursor(t *testing.T) {
	t.Parallel()
	raw := base64.RawURLEncoding.EncodeToString
	const id = "i=0197f000-0000-7000-8000-000000000000"
	if _, err := store.DecodeCursor(raw([]byte(id+"&s=created_at")), store.SortCreatedAt, false); err != nil {
		t.Errorf("what is one: %v", err)
	}
	for _, s := range []string{
		"", "x", "!", raw([]byte("{}")), raw([]byte("s=created_at")), raw([]byte("i=x&s=created_at")), raw([]byte(id + "&s=label")), raw([]byte(id + "&s=created_at&t=x")),
		raw([]byte("s=created_at&" + id)), raw([]byte(id + "&more=x&s=created_at")), raw([]byte(strings.ToUpper(id[2:]) + "&s=created_at")),
		raw([]byte(id + "&p=%ff&s=created_at")), raw([]byte(id + "&p=%FF&s=created_at")), raw([]byte(id + "&p=%00&s=created_at")), raw([]byte(strings.Repeat("[", 9000))),
		strings.Repeat("A", 4096),
	} {
		if _, err := store.DecodeCursor(s, store.SortCreatedAt, false); !errors.Is(err, store.ErrBadCursor) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestSortFields(t *testing.T) {
	t.Parallel()
	if store.SortField("key_hash").Valid() || store.SortField("").Valid() || !store.SortLabel.Valid() {
		t.Error("the wrong columns can be sorted by")
	}
}

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
