package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// oddRows are rows of which each has one field that is not as usual.
func oddRows() (rows []movein.Row) {
	usual := movein.Row{
		ID: "0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a", Label: "Twitch bot", Permissions: `["bots:write","bots:read"]`, Copies: 1,
		Hash: "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
	}
	add := func(edit func(*movein.Row)) {
		row := usual
		edit(&row)
		rows = append(rows, row)
	}
	add(func(*movein.Row) {})
	for _, id := range []string{
		"", "17", "00000000-0000-0000-0000-000000000000", "0B2F7C7E-5D0C-4F0E-9D0A-3F6D6F1C2B3A", "{0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a}",
		"0b2f7c7e5d0c4f0e9d0a3f6d6f1c2b3a", usual.ID + "\n", "gb2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a", "00000000-0000-0000-0000-000000000001",
	} {
		add(func(r *movein.Row) { r.ID = id })
	}
	hash := func(old, renewed string) string { return strings.Replace(usual.Hash, old, renewed, 1) }
	for _, label := range []string{
		"", " \t", " blanks \u00a0\u3000", "\u200b", "\u200e", "a\nb", "a\u0085b", "tab\t", strings.Repeat("é", 100), strings.Repeat("é", 101),
		strings.Repeat("x", 99) + " y", strings.Repeat("x", 99) + "\x7f" + "y", "北京", "Ω", "\u0301", "\u00ad", "\u034f", "\u3164", "\u115f", "\u2800", "\U0001d159", "😀", "\ue000",
		"\ufffd", "\u202ea", "\u061ca", "\u2028", "\U000e0001", "\U0001f1e6", "٣", "½", "_", "~", "a\u2066", "\u00a0", "\u1680x\u2000",
		"for lm_sys_0123456789abcdefghij", "LM_SYS_ABCDEFGHIJKLMNOPQRST", "lm_sys_abcdefghijklmnopqrs", "lm_sys_last_visited_page_of_all_users", "lm_sys_last_visited_page_of_user_7",
		"lm_sys_a-b-c-d-e-f-g-h-i-j-k-l", "lm_sys_" + strings.Repeat("a_", 31) + "a1", "lm_sys_" + strings.Repeat("a_", 32) + "1", "%6cm_sys_0123456789abcdefghij",
		"%256Cm_sys_0123456789abcdefghij", "%%366cm_sys_0123456789abcdefghij", "lm_sys_%30123456789abcdefghij", "100% of %zz %6", "%00%ff", "lm_sys_0123456789\nabcdefghij",
		strings.Repeat("x", 85) + "lm_sys_0123456789abcdefghij", "was $2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "$argon2id$short", "costs $5$ and more",
		"$a$" + strings.Repeat("b", 19), "$a$" + strings.Repeat("b", 20), usual.Hash, "it's \"quoted\" \\ and $$",
	} {
		add(func(r *movein.Row) { r.Label = label })
	}
	for _, hash := range []string{
		"", "x", usual.Hash + "\n", usual.Hash + "=", usual.Hash + "A", " " + usual.Hash, strings.ToUpper(usual.Hash),
		"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", strings.Repeat("ab", 32), hash("argon2id", "argon2i"), hash("argon2id", "argon2d"), hash("v=19", "v=16"),
		hash("v=19$", ""), hash("m=19456,t=2", "t=2,m=19456"), hash("19456", "262144"), hash("19456", "262145"), hash("19456", "8"), hash("19456", "7"), hash("19456", "019456"),
		hash("19456", "4294967296"), hash("p=1", "p=8"), hash("m=19456,t=2,p=1", "m=64,t=2,p=8"), hash("m=19456,t=2,p=1", "m=63,t=2,p=8"), hash("p=1", "p=9"), hash("p=1", "p=0"), hash("p=1", "p=01"),
		hash("t=2", "t=10"), hash("t=2", "t=11"), hash("t=2", "t=0"), hash("t=2", "t=-1"), hash("t=2", "t=+2"), hash("t=2", "t= 2"), hash("p=1", "p=1,keyid=YQ"),
		hash("MDEyMzQ1Njc4OWFiY2RlZg$", "MDEyMzQ1Njc$"), hash("MDEyMzQ1Njc4OWFiY2RlZg$", "MDEyMzQ1Ng$"), hash("MDEyMzQ1Njc4OWFiY2RlZg$", "MDEyMzQ1Njc4OWFiY2RlZh$"), hash("MDEyMzQ1Njc4OWFiY2RlZg$", "$"),
		hash("MDEyMzQ1Njc4OWFiY2RlZg$", strings.Repeat("MDEy", 21)+"MA$"), hash("MDEyMzQ1Njc4OWFiY2RlZg$", strings.Repeat("MDEy", 21)+"MDE$"), hash("MDEyMzQ1Njc4OWFiY2RlZg$", "MDEyMzQ1Njc4OWFiY2RlZ-$"),
		"$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg", "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2Rl",
		"$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + strings.Repeat("MDEy", 60), "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg",
	} {
		add(func(r *movein.Row) { r.Hash = hash })
	}
	many := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf("bots:read-%d", i)
		}
		return `"` + strings.Join(all, ",") + `"`
	}
	for _, permissions := range []string{
		"", "null", "[]", `""`, `"bots:read"`, `"bots:write,bots:read"`, `" bots:write  bots:read\n,a:b, "`, `"a:b\u00a0c:d\u2003e:f\u000bg:h"`, `"a:b\u200bc:d"`, `["bots:read","bots:read"]`,
		`" [\"bots:write\", \"bots:read\"]"`, `" [\"[\"]"`, `"\u3000[]"`, `"[1]"`, `"[\"a:b\""`, `["bots:*"]`, `[""]`, `["a:b:c"]`, `["A:b"]`, `["a:b "]`, `["a:b\n"]`, `["é:b"]`, `["a:"]`, `[":b"]`, `["-:-"]`,
		many(64), many(65), `[1]`, `["a:b",null]`, `[["a:b"]]`, `{"a:b":true}`, `true`, `7`, `"[\"bots:read\""`, `"null"`, `not json`, `["a:b"`, `["\u0000"]`, `"\ud800"`,
		`["` + strings.Repeat("a", 50) + ":" + strings.Repeat("b", 49) + `"]`, `["` + strings.Repeat("a", 50) + ":" + strings.Repeat("b", 50) + `"]`, strings.Repeat("[", 100_000),
		`["b:a","a:b","a-b:c","ab:c"]`,
	} {
		add(func(r *movein.Row) { r.Permissions = permissions })
	}
	for _, moment := range []movein.Time{
		{At: time.Date(2024, 3, 1, 12, 30, 0, 123456000, time.UTC)},
		{Infinite: true},
		{At: time.Unix(0, 0)},
		{At: time.Unix(0, 1000)},
		{At: time.Unix(-1, 0)},
		{At: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		add(func(r *movein.Row) { r.CreatedAt = moment })
		add(func(r *movein.Row) { r.LastUsedAt = moment })
		add(func(r *movein.Row) { r.ExpiresAt = moment })
	}
	// Any two of the odd labels' characters, in any order.
	letters := []rune(" \n\t\u200b\u00a0\u3164\u0301a北\u2028\u202e%6c_$")
	random := rand.New(rand.NewPCG(17, 3))
	for range 300 {
		var label strings.Builder
		for range random.IntN(6) {
			label.WriteRune(letters[random.IntN(len(letters))])
		}
		add(func(r *movein.Row) { r.Label = label.String() })
	}
	return rows
}

// TestTheTriggersJudgeARowAsTheImportDoes holds the check in SQL to the one in Go.
func TestTheTriggersJudgeARowAsTheImportDoes(t *testing.T) {
	t.Parallel()
	_, dsn := migrated(t)
	conn := connect(t, dsn)
	stamp := func(at movein.Time) pgtype.Timestamptz {
		if at.Infinite {
			return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
		}
		return pgtype.Timestamptz{Time: at.At, Valid: !at.At.IsZero()}
	}
	fits := 0
	for _, relabel := range []bool{false, true} {
		for _, row := range oddRows() {
			want, problems := row.Key(relabel)
			var id store.ID
			var label, problem string
			var permissions []string
			err := conn.QueryRow(t.Context(), "SELECT key, coalesce(name, ''), granted, coalesce(problem, '') FROM sidecar.fit($1, $2, $3, $4, $5, $6, $7, $8)",
				row.ID, row.Label, row.Hash, row.Permissions, stamp(row.CreatedAt), stamp(row.LastUsedAt), stamp(row.ExpiresAt), relabel).
				Scan(sqlstore.ID(&id), &label, &permissions, &problem)
			if err != nil { // it would fail their statement
				t.Errorf("%+v: %v", row, err)
				continue
			}
			switch {
			case len(problems) > 0 && !strings.HasPrefix(problem+" ", problems[0].Field+" "), len(problems) == 0 && problem != "":
				t.Errorf("%+v, relabel %t: SQL says %q, Go says %v", row, relabel, problem, problems)
			case len(problems) == 0:
				fits++
				got := store.Key{ID: id, Label: label, Permissions: permissions}
				if diff := cmp.Diff(store.Key{ID: want.ID, Label: want.Label, Permissions: want.Permissions}, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%+v: -Go +SQL\n%s", row, diff)
				}
			}
		}
	}
	if fits < 100 {
		t.Errorf("only %d rows fit", fits)
	}
}
