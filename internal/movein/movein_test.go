package movein_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	goodID   = "0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a" // version 4
	goodHash = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
	bcrypt   = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
)

var created = time.Date(2024, 3, 1, 12, 30, 0, 123456000, time.UTC)

// good is a row that fits, changed by edit.
func good(edit func(*movein.Row)) *movein.Row {
	row := &movein.Row{
		ID: goodID, Label: "Twitch bot", Hash: goodHash, Permissions: `["bots:write","bots:read","bots:read"]`,
		CreatedAt: movein.Time{At: created}, Copies: 1,
	}
	if edit != nil {
		edit(row)
	}
	return row
}

func TestARowThatFitsBecomesAForeignKey(t *testing.T) {
	t.Parallel()
	key, problems := good(func(r *movein.Row) {
		r.ID = strings.ToUpper(r.ID)
		r.Label = "  Twitch bot\t"
		r.CreatedAt.At = created.In(time.FixedZone("", 3600))
		r.LastUsedAt.At, r.ExpiresAt.At = created.Add(time.Hour), created.Add(2*time.Hour)
	}).Key(false)
	id, err := store.ParseID(goodID)
	if err != nil {
		t.Fatal(err)
	}
	want := store.Key{
		ID: id, Label: "Twitch bot", Permissions: []string{"bots:read", "bots:write"}, Hash: goodHash,
		CreatedAt: created, CreatedBy: "import", Foreign: true, LastUsedAt: created.Add(time.Hour), ExpiresAt: created.Add(2 * time.Hour),
	}
	if diff := cmp.Diff(want, key); diff != "" || problems != nil || key.Hash != want.Hash {
		t.Errorf("%v, -want +got\n%s", problems, diff)
	}
}

func TestWhatDoesNotFitIsNamed(t *testing.T) {
	t.Parallel()
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("bots:read-%d", i)
	}
	for name, c := range map[string]struct {
		edit func(*movein.Row)
		want []string
	}{
		"no id":                     {func(r *movein.Row) { r.ID = "" }, []string{"id is not a UUID"}},
		"a number as id":            {func(r *movein.Row) { r.ID = "17" }, []string{"id is not a UUID"}},
		"the nil UUID":              {func(r *movein.Row) { r.ID = "00000000-0000-0000-0000-000000000000" }, []string{"id is not a UUID"}},
		"an id of two rows":         {func(r *movein.Row) { r.Copies = 2 }, []string{"id stands in more than one row"}},
		"no label":                  {func(r *movein.Row) { r.Label = "" }, []string{"label must not be empty"}},
		"a blank label":             {func(r *movein.Row) { r.Label = " \t" }, []string{"label must not be empty"}},
		"an invisible label":        {func(r *movein.Row) { r.Label = "\u200b" }, []string{"label must have a character that can be seen"}},
		"a long label":              {func(r *movein.Row) { r.Label = strings.Repeat("é", 101) }, []string{"label must be at most 100 characters long"}},
		"a label with a line":       {func(r *movein.Row) { r.Label = "a\nb" }, []string{"label must not contain control characters"}},
		"a label with a key":        {func(r *movein.Row) { r.Label = "for lm_sys_0123456789abcdefghij" }, []string{"label must not hold a system key"}},
		"a label with a hash":       {func(r *movein.Row) { r.Label = "was " + bcrypt }, []string{"label must not hold a hash"}},
		"no hash":                   {func(r *movein.Row) { r.Hash = "" }, []string{"hash is empty"}},
		"bcrypt":                    {func(r *movein.Row) { r.Hash = bcrypt }, []string{"hash is of bcrypt, not of Argon2id"}},
		"argon2i":                   {func(r *movein.Row) { r.Hash = strings.Replace(goodHash, "2id", "2i", 1) }, []string{"hash is of Argon2i, not of Argon2id"}},
		"argon2d":                   {func(r *movein.Row) { r.Hash = strings.Replace(goodHash, "2id", "2d", 1) }, []string{"hash is of Argon2d, not of Argon2id"}},
		"too much memory":           {func(r *movein.Row) { r.Hash = strings.Replace(goodHash, "19456", "262145", 1) }, []string{"hash memory out of bounds: must be 8 KiB for each lane to 262144 KiB"}},
		"too many iterations":       {func(r *movein.Row) { r.Hash = strings.Replace(goodHash, "t=2", "t=11", 1) }, []string{"hash iterations out of bounds: must be 1 to 10"}},
		"a digest of another kind":  {func(r *movein.Row) { r.Hash = strings.Repeat("ab", 32) }, []string{"hash is not an Argon2id PHC string"}},
		"a wildcard":                {func(r *movein.Row) { r.Permissions = `["bots:*"]` }, []string{`permissions "bots:*" is not of the form resource:action (a-z, 0-9 and hyphen)`}},
		"an empty permission":       {func(r *movein.Row) { r.Permissions = `[""]` }, []string{`permissions "" is not of the form resource:action (a-z, 0-9 and hyphen)`}},
		"too many permissions":      {func(r *movein.Row) { r.Permissions = `"` + strings.Join(many, ",") + `"` }, []string{"permissions a key can hold 64 permissions at most"}},
		"numbers as permissions":    {func(r *movein.Row) { r.Permissions = `[1]` }, []string{"permissions is no list of texts"}},
		"NULL as permission":        {func(r *movein.Row) { r.Permissions = `["bots:read",null]` }, []string{"permissions is no list of texts"}},
		"an array of arrays":        {func(r *movein.Row) { r.Permissions = `[["bots:read"]]` }, []string{"permissions is no list of texts"}},
		"an object as permissions":  {func(r *movein.Row) { r.Permissions = `{"bots:read":true}` }, []string{"permissions is no list of texts"}},
		"half an array":             {func(r *movein.Row) { r.Permissions = `"[\"bots:read\""` }, []string{"permissions is no list of texts"}},
		"a hash as permissions":     {func(r *movein.Row) { r.Permissions = `"` + bcrypt + `"` }, []string{`permissions "REDACTED is not of the form resource:action (a-z, 0-9 and hyphen)`}},
		"an infinite expiry":        {func(r *movein.Row) { r.ExpiresAt.Infinite = true }, []string{"expires_at is infinite"}},
		"an infinite creation":      {func(r *movein.Row) { r.CreatedAt = movein.Time{Infinite: true} }, []string{"created_at is infinite"}},
		"an infinite last use":      {func(r *movein.Row) { r.LastUsedAt.Infinite = true }, []string{"last_used_at is infinite"}},
		"expired since the epoch":   {func(r *movein.Row) { r.ExpiresAt.At = time.Unix(0, 0) }, []string{"expires_at must lie after the beginning of 1970"}},
		"expires too late for JSON": {func(r *movein.Row) { r.ExpiresAt.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, []string{"expires_at must lie before the year 10000"}},
		"more than one problem": {
			func(r *movein.Row) { r.ID, r.Hash, r.Label = "x", bcrypt, "" },
			[]string{"id is not a UUID", "label must not be empty", "hash is of bcrypt, not of Argon2id"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := good(c.edit).Key(false)
			var got []string
			for _, p := range problems {
				got = append(got, p.Field+" "+p.Reason)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestEveryFormOfPermissionsIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                      {},
		"null":                                  {},
		"[]":                                    {},
		`""`:                                    {},
		`"bots:read"`:                           {"bots:read"},
		`"bots:write,bots:read"`:                {"bots:read", "bots:write"},
		`" bots:write  bots:read\n,a:b, "`:      {"a:b", "bots:read", "bots:write"},
		`["bots:write","bots:read"]`:            {"bots:read", "bots:write"},
		`" [\"bots:write\", \"bots:read\"]"`:    {"bots:read", "bots:write"},
		`["bots:read","bots:read","bots:read"]`: {"bots:read"},
	} {
		key, problems := good(func(r *movein.Row) { r.Permissions = text }).Key(false)
		if diff := cmp.Diff(want, key.Permissions); diff != "" || problems != nil {
			t.Errorf("%s: %v\n%s", text, problems, diff)
		}
	}
}

func TestLabelsAreRepaired(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]string{
		"fine":                                 "fine",
		" a\nb\x00\u202e ":                     "ab",
		strings.Repeat("é", 99) + " tail":      strings.Repeat("é", 99),
		"":                                     "imported 0b2f7c7e",
		"\u200b\n":                             "imported 0b2f7c7e",
		strings.Repeat("x", 99) + "\x7f" + "y": strings.Repeat("x", 99) + "y",
	} {
		key, problems := good(func(r *movein.Row) { r.Label = label }).Key(true)
		if key.Label != want || problems != nil {
			t.Errorf("%q became %q, %v", label, key.Label, problems)
		}
	}
	// A part of a key would be left.
	for _, label := range []string{
		strings.Repeat("x", 85) + "lm_sys_0123456789abcdefghij",
		"lm_sys_0123456789\nabcdefghij",
		strings.Repeat("x", 80) + bcrypt,
	} {
		if _, problems := good(func(r *movein.Row) { r.Label = label }).Key(true); len(problems) != 1 || problems[0].Field != "label" {
			t.Errorf("%q gives %v", label, problems)
		}
	}
}

func TestARowThatIsThereIsCompared(t *testing.T) {
	t.Parallel()
	key, _ := good(nil).Key(false)
	for name, c := range map[string]struct {
		edit func(key, stored *store.Key)
		want string
	}{
		"the same":            {func(_, _ *store.Key) {}, ""},
		"used since":          {func(_, stored *store.Key) { stored.LastUsedAt = created.Add(time.Hour) }, ""},
		"of unknown creation": {func(key, stored *store.Key) { key.CreatedAt, stored.CreatedAt = time.Time{}, created }, ""},
		"minted here":         {func(_, stored *store.Key) { stored.Foreign = false }, "belongs to a key that was minted here"},
		"another hash":        {func(_, stored *store.Key) { stored.Hash += "A" }, "is there already, and differs in hash"},
		"all else": {func(_, stored *store.Key) {
			stored.Label, stored.Permissions, stored.ExpiresAt, stored.CreatedAt = "b", nil, created, created.Add(time.Second)
		}, "is there already, and differs in label, permissions, expires_at, created_at"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, stored := key, key
			c.edit(&key, &stored)
			problem, got := movein.Compare(&key, &stored), ""
			if problem != nil {
				got = problem.Reason
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestColumnsAreFound(t *testing.T) {
	t.Parallel()
	theirs := []movein.TheirColumn{
		{Name: "id"},
		{Name: "name"},
		{Name: "key_hash"},
		{Name: "permissions"},
		{Name: "created_at", Type: "text"},
		{Name: "Until", IsTime: true},
		{Name: "revoked"},
	}
	for name, c := range map[string]struct {
		mapped map[string]string
		want   string // of the error
	}{
		"all named":            {map[string]string{"label": "name", "created_at": "Until"}, ""},
		"a label that is not":  {nil, `t has no column "label" for label: use --map label=COLUMN, with one of id, name, key_hash, permissions, created_at, Until, revoked`},
		"an expiry that isn't": {map[string]string{"label": "name", "created_at": "Until", "expires_at": "until"}, `t has no column "until" for expires_at`},
		"a time that is none":  {map[string]string{"label": "name"}, `the column "created_at" of t, for created_at, is text: a timestamp or a date is needed`},
		"a name of ours":       {map[string]string{"key_hash": "x"}, `there is no "key_hash": the names are id, label, hash, permissions, created_at, last_used_at, expires_at`},
		"one column twice":     {map[string]string{"label": "key_hash"}, `the column "key_hash" is read twice`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			columns, err := movein.Columns(c.mapped)
			var layout movein.Layout
			if err == nil {
				layout, err = movein.Lay("t", columns, theirs)
			}
			if c.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil || layout.Columns[4].Theirs != "Until" || layout.Columns[6].Theirs != "" {
				t.Errorf("%v %+v", err, layout)
			}
			if diff := cmp.Diff([]string{"created_at", "revoked"}, layout.Unread); diff != "" {
				t.Errorf("not read: -want +got\n%s", diff)
			}
		})
	}
}
