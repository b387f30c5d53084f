package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAHashIsNeverPrinted logs, formats and encodes a key by every road.
func TestAHashIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const secret = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"
	key := store.Key{Label: "bot", Hash: secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb, key)
		fmt.Fprintf(&out, verb, &key)
		fmt.Fprintf(&out, verb, key.Hash)
	}
	fmt.Fprint(&out, key.Hash, key.Hash.String(), key.Hash.GoString())
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("x", slog.Any("key", key), slog.Any("hash", key.Hash))
	}
	if err := json.NewEncoder(&out).Encode(key); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"argon2id", "c2FsdA", "aGFzaA", fmt.Sprintf("%x", "aGFzaA"), fmt.Sprintf("%X", "aGFzaA")} {
		if strings.Contains(out.String(), part) {
			t.Errorf("%q was printed in\n%s", part, out.String())
		}
	}
	if string(key.Hash) != secret {
		t.Error("a driver cannot get at the hash")
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		expires time.Time
		want    bool
	}{
		{"never", time.Time{}, false},
		{"a moment ago", now.Add(-1), true},
		{"now", now, true},
		{"in a moment", now.Add(1), false},
	} {
		if got := (&store.Key{ExpiresAt: test.expires}).Expired(now); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestCleanLabel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in, want string
		bad            bool
	}{
		{name: "trimmed", in: " \t Twitch Bot Key \n", want: "Twitch Bot Key"},
		{name: "100 characters of two bytes", in: strings.Repeat("é", 100), want: strings.Repeat("é", 100)},
		{name: "an emoji with a joiner", in: "👩‍🚀", want: "👩‍🚀"},
		{name: "right-to-left script", in: "مفتاح", want: "مفتاح"},
		{name: "empty", in: "", bad: true},
		{name: "white space", in: " \u00a0\u3000", bad: true},
		{name: "101 characters", in: strings.Repeat("a", 101), bad: true},
		{name: "a line feed", in: "a\nb", bad: true},
		{name: "NUL", in: "a\x00b", bad: true},
		{name: "escape", in: "a\x1b[31mb", bad: true},
		{name: "a C1 control", in: "a\u0085b", bad: true},
		{name: "a line separator", in: "a\u2028b", bad: true},
		{name: "an override of the direction", in: "a\u202eb", bad: true},
		{name: "an isolate", in: "a\u2066b", bad: true},
		{name: "not UTF-8", in: "a\xffb", bad: true},
		{name: "one letter among what cannot be seen", in: "\u200b\u0301a\ufe0f", want: "\u200b\u0301a\ufe0f"},
		{name: "punctuation", in: "–", want: "–"},
		{name: "an emoji", in: "❤️", want: "❤️"},
		{name: "a combining mark with its letter", in: "e\u0301", want: "e\u0301"},
		{name: "a zero width space", in: "\u200b", bad: true},
		{name: "a zero width joiner", in: "\u200d\u200d", bad: true},
		{name: "a byte order mark", in: "\ufeff", bad: true},
		{name: "a soft hyphen", in: "\u00ad", bad: true},
		{name: "a blank of Braille", in: "\u2800\u2800", bad: true},
		{name: "a filler of Hangul", in: "\u3164", bad: true},
		{name: "other fillers of Hangul", in: "\u115f\u1160\uffa0", bad: true},
		{name: "a variation selector", in: "\ufe0f", bad: true},
		{name: "a combining mark alone", in: "\u0301", bad: true},
		{name: "a combining grapheme joiner", in: "\u034f", bad: true},
		{name: "a Mongolian vowel separator", in: "\u180e", bad: true},
		{name: "a word joiner", in: "\u2060", bad: true},
		{name: "tags", in: "\U000e0041\U000e007f", bad: true},
		{name: "a notehead that is none", in: "\U0001d159", bad: true},
		{name: "spaces of several kinds and no letter", in: "\u200b \u3000\u2800\u200b", bad: true},
	} {
		got, err := store.CleanLabel(test.in)
		if invalid, ok := errors.AsType[*store.InvalidError](err); ok != test.bad || ok && invalid.Field != "label" {
			t.Errorf("%s: %v", test.name, err)
		}
		if got != test.want {
			t.Errorf("%s: got %q", test.name, got)
		}
	}
}

func TestCleanPermissions(t *testing.T) {
	t.Parallel()
	got, err := store.CleanPermissions([]string{"b:w", "a-1:read", "b:w"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a-1:read", "b:w"}, got); diff != "" {
		t.Error(diff)
	}
	if got, err = store.CleanPermissions(nil); got == nil || err != nil {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, p := range []string{
		"", ":", "a", "a:", ":a", "a:b:c", "A:b", "a:B", "a b:c", "a:*", "*", "a_b:c", "a.b:c", "a:b\n", "a:b,c:d", "ä:b",
		strings.Repeat("a", store.MaxPermission) + ":b",
	} {
		_, err := store.CleanPermissions([]string{"good:one", p})
		if invalid, ok := errors.AsType[*store.InvalidError](err); !ok || invalid.Field != "permissions" {
			t.Errorf("%q: %v", p, err)
		}
	}
	var many []string
	for i := range store.MaxPermissions + 1 {
		many = append(many, fmt.Sprintf("p:%d", i))
	}
	if _, err := store.CleanPermissions(many); err == nil {
		t.Error("too many were accepted")
	}
	if clean, err := store.CleanPermissions(many[1:]); err != nil || !slices.IsSorted(clean) {
		t.Errorf("as many as there may be: %v", err)
	}
}

func TestIDRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var id store.ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		parsed, err := store.ParseID(id.String())
		if err != nil || parsed != id {
			t.Fatalf("%s became %s: %v", id, parsed, err)
		}
		b, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var decoded store.ID
		if err := json.Unmarshal(b, &decoded); err != nil || decoded != id {
			t.Fatalf("%s became %s in JSON: %v", id, decoded, err)
		}
	})
}

func TestOnlyTheCanonicalFormIsAnID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "0", "0197f000-0000-7000-8000-00000000000", "0197f000-0000-7000-8000-0000000000000",
		"0197f00000007000800000000000000", "{0197f000-0000-7000-8000-000000000000}", "urn:uuid:0197f000-0000-7000-8000-000000000000",
		"0197f000-0000-7000-8000_000000000000", "0197f000-0000-7000-8000-00000000000g", "0197f0000-000-7000-8000-000000000000",
		"+197f000-0000-7000-8000-000000000000", "0197f000 0000 7000 8000 000000000000",
	} {
		if _, err := store.ParseID(s); !errors.Is(err, store.ErrBadID) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, err := store.ParseID("0197F000-0000-7000-8000-00000000000A"); err != nil {
		t.Errorf("capitals: %v", err)
	}
}

// TestTheNilUUIDIsNoKey: in a query it stands for any.
func TestTheNilUUIDIsNoKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"00000000-0000-0000-0000-000000000000": false, "00000000-0000-0000-0000-000000000001": true, "0199d3f0": false,
		"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF": true,
	} {
		if _, err := store.ParseKeyID(text); (err == nil) != want || err != nil && !errors.Is(err, store.ErrBadID) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestARepairedLabelIsClean(t *testing.T) {
	t.Parallel()
	for _, label := range []string{
		"fine", " a\nb ", strings.Repeat("é", 99) + " tail", strings.Repeat("x", 300), "a\xffb", "\u202eabc", "a\u2028b", "\x00", "\u200b", "",
	} {
		repaired := store.RepairLabel(label)
		clean, err := store.CleanLabel(repaired)
		if repaired == "" {
			if strings.ContainsAny(label, "abcdefghijklmnopqrstuvwxyz") {
				t.Errorf("of %q nothing is left", label)
			}
			continue
		}
		if err != nil || clean != repaired {
			t.Errorf("%q became %q, which is not clean: %v", label, repaired, err)
		}
	}
}
