// Package movein judges the rows of another service's table of keys. It says which key of
// ours a row becomes, or why it cannot become one. It reads no database: a driver reads the
// rows.
package movein

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// CreatedBy is what an imported key has in created_by. It tells such keys from those that a
// service has written into the table by itself.
const CreatedBy = store.Imported

// Time is a time of the other database, which knows infinite times.
//
// PostgreSQL has the times infinity and -infinity (Date/Time Types, "Special Values"), which no
// key can have.
type Time struct {
	At       time.Time // zero for NULL
	Infinite bool
}

// Row is a row of the other table. NULL is an empty text or a zero time. Nothing in it is
// trusted: the texts may hold keys, hashes and control characters.
type Row struct {
	ID, Label, Hash string
	// Permissions is JSON, whatever the type of the column: null, a text or an array.
	Permissions                      string
	CreatedAt, LastUsedAt, ExpiresAt Time
	// Copies is how many rows have this id.
	Copies int
}

// Problem says why a row does not fit. Field is our name of a column. Reason continues a
// sentence whose subject is the field. It holds no key and no hash.
type Problem struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// Key returns the key that a row becomes, and all problems of the row. If there are problems,
// the key must not be kept. If relabel is set, a label that breaks a rule is repaired where that
// can be done. Nothing else is ever repaired: another hash, permission or expiry would be
// another key. The owner repairs those in the other table.
func (r *Row) Key(relabel bool) (key store.Key, problems []Problem) {
	add := func(field, reason string) { problems = append(problems, Problem{field, Redact(reason)}) }
	addError := func(field string, err error) {
		if invalid, ok := errors.AsType[*store.InvalidError](err); ok {
			add(field, invalid.Reason)
		} else if err != nil {
			add(field, err.Error())
		}
	}
	key = store.Key{Hash: store.Hash(r.Hash), CreatedBy: CreatedBy, Foreign: true}
	var err error
	if key.ID, err = store.ParseKeyID(r.ID); err != nil {
		add("id", "is not a UUID")
	} else if r.Copies > 1 {
		add("id", "stands in more than one row")
	}
	key.Label, err = r.label(key.ID, relabel)
	addError("label", err)
	if reason := unfitHash(r.Hash); reason != "" {
		add("hash", reason)
	}
	permissions, err := readPermissions(r.Permissions)
	if err == nil {
		key.Permissions, err = store.CleanPermissions(permissions)
	}
	addError("permissions", err)
	for _, c := range []struct {
		field string
		from  Time
		into  *time.Time
	}{
		{"created_at", r.CreatedAt, &key.CreatedAt},
		{"last_used_at", r.LastUsedAt, &key.LastUsedAt},
		{"expires_at", r.ExpiresAt, &key.ExpiresAt},
	} {
		if reason := unfitTime(c.from); reason != "" {
			add(c.field, reason)
		}
		if *c.into = c.from.At; !c.from.At.IsZero() {
			*c.into = c.from.At.UTC()
		}
	}
	return key, problems
}

// label returns the label that the key gets. A label that holds a key or a hash cannot be
// repaired: a part of it could be left.
func (r *Row) label(id store.ID, relabel bool) (string, error) {
	repaired := store.RepairLabel(r.Label)
	if token.Holds(r.Label) || token.Holds(repaired) {
		return "", errors.New("must not hold a system key")
	}
	if hashed.MatchString(r.Label) || hashed.MatchString(repaired) {
		return "", errors.New("must not hold a hash")
	}
	label, err := store.CleanLabel(r.Label)
	if err == nil || !relabel {
		return label, err
	}
	if repaired == "" {
		repaired = "imported " + id.String()[:8]
	}
	return repaired, nil
}

// otherHashes are the beginnings of hashes that are not Argon2id. They only make the message
// better: no other hash is accepted.
var otherHashes = []struct{ prefix, name string }{
	{"$2", "bcrypt"},
	{"$argon2i$", "Argon2i"},
	{"$argon2d$", "Argon2d"},
	{"$scrypt$", "scrypt"},
	{"$pbkdf2", "PBKDF2"},
	{"pbkdf2", "PBKDF2"},
}

// unfitHash says why a hash cannot be verified, or returns "". It repeats nothing of it.
func unfitHash(hash string) string {
	_, err := phc.Parse(hash)
	switch {
	case err == nil:
		return ""
	case hash == "":
		return "is empty"
	case errors.Is(err, phc.ErrOutOfBounds):
		return err.Error()
	}
	for _, other := range otherHashes {
		if strings.HasPrefix(hash, other.prefix) {
			return "is of " + other.name + ", not of Argon2id"
		}
	}
	return "is not an Argon2id PHC string"
}

// unfitTime says why a time cannot be kept, or returns "". SQLite has 0, the beginning of
// 1970, for no time: a key that expired then would never expire. RFC 3339 has four digits
// for the year.
func unfitTime(t Time) string {
	switch {
	case t.Infinite:
		return "is infinite"
	case t.At.IsZero():
		return ""
	case t.At.UnixMicro() <= 0:
		return "must lie after the beginning of 1970"
	case t.At.UTC().Year() > 9999:
		return "must lie before the year 10000"
	}
	return ""
}

var errNoList = errors.New("is no list of texts")

// readPermissions reads JSON: an array of texts, or a text with commas or blanks between the
// permissions. A text may hold an array too. Nothing and null are no permissions. Whether each
// is one that a key can hold, is checked later.
func readPermissions(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return nil, errNoList // the error would repeat a part of the text
	}
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		if strings.HasPrefix(strings.TrimSpace(v), "[") {
			return readPermissions(v)
		}
		return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }), nil
	case []any:
		list := make([]string, len(v))
		for i, element := range v {
			permission, ok := element.(string)
			if !ok {
				return nil, errNoList
			}
			list[i] = permission
		}
		return list, nil
	}
	return nil, errNoList
}

// hashed matches a hash in the PHC format or in that of crypt(3), which may stand in a column
// that was taken for another one.
var hashed = regexp.MustCompile(`\$[0-9A-Za-z-]{1,20}\$\S{20,}`)

// Redact takes keys and hashes out of a text of the other table. A hash is no key, but a weak
// key can be guessed from it.
func Redact(s string) string { return hashed.ReplaceAllLiteralString(token.Redact(s), token.Redacted) }

// Compare says why a row cannot become a key because a row with this id is there already. If
// both are the same key with the same contents, there is no problem. Last use differs as soon as
// the key is used. If the other table does not say when the key was created, it is not compared.
// So an import that was interrupted, or is run twice, ends well.
func Compare(key, stored *store.Key) *Problem {
	if !stored.Foreign {
		return &Problem{"id", "belongs to a key that was minted here"}
	}
	var others []string
	for _, c := range []struct {
		name string
		same bool
	}{
		{"hash", key.Hash == stored.Hash},
		{"label", key.Label == stored.Label},
		{"permissions", slices.Equal(key.Permissions, stored.Permissions)},
		{"expires_at", key.ExpiresAt.Equal(stored.ExpiresAt)},
		{"created_at", key.CreatedAt.IsZero() || key.CreatedAt.Equal(stored.CreatedAt)},
	} {
		if !c.same {
			others = append(others, c.name)
		}
	}
	if others == nil {
		return nil
	}
	return &Problem{"id", "is there already, and differs in " + strings.Join(others, ", ")}
}
