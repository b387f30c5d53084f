package admin

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// lenient are what simple servers make of a path, each in its own way. It knows
// nothing of [reading].
func lenient(p string) []string {
	all := []string{p}
	for decoded := p; len(all) < 6; {
		again, err := url.PathUnescape(decoded)
		if err != nil || again == decoded {
			break
		}
		decoded = again
		all = append(all, decoded)
	}
	for _, one := range all {
		cut, _, _ := strings.Cut(one, "?")
		cut, _, _ = strings.Cut(cut, "#")
		whole, _, _ := strings.Cut(one, ";")
		line := one
		if end := strings.IndexAny(one, "\x00\t\n\r"); end >= 0 {
			line = one[:end]
		}
		dropped := strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(one)
		all = append(all, cut, whole, line, dropped, strings.ReplaceAll(one, `\`, "/"), strings.TrimSpace(one), strings.ToValidUTF8(one, ""))
	}
	for i, one := range all {
		all[i] = path.Clean("/" + one)
		all = append(all, strings.ToLower(strings.ToUpper(all[i])), strings.ToLower(all[i]))
	}
	return all
}

func isOurs(p string) bool {
	for _, of := range []string{keysPath, auditPath, APIPath, "/system"} {
		if p == of || strings.HasPrefix(p, of+"/") {
			return true
		}
	}
	return p == GraphQLPath
}

// FuzzOwns holds that a path is not handed on if some lenient reader takes it for one
// of ours, and that a path which is plain means what it says.
func FuzzOwns(f *testing.F) {
	for _, p := range []string{
		"/v1/gql", "/v1/gql\n", "/v1/gql%0a", "/v1/gql%253fx", "/V1/GQL", "/\u017fystem", "/api/system-\u212aeys", `\v1\gql`, "/v1/x/../gql;a", "/v1/gqlx", "/systematic",
		"/v1/admin/system-keys/x", "/v1/admin/audit-log ", "/v1/gq%256c", "/v1\xc0\xafgql", "*", "", "//", "/files/ä b", "/v1/gql/x", "/?/v1/gql",
	} {
		f.Add(p)
	}
	h := NewHandler(Config{Page: "/system"})
	f.Fuzz(func(t *testing.T, p string) {
		owned := h.Owns(p)
		for _, read := range lenient(p) {
			if !owned && isOurs(read) {
				t.Fatalf("%q is handed on, and may be read as %q", p, read)
			}
		}
		if isPlain(p) && owned != isOurs(path.Clean(strings.ToLower(p))) {
			t.Errorf("%q is plain, and ours is %v", p, owned)
		}
		if isPlain(p) && owned != h.oursInAnyReading(p) {
			t.Errorf("%q has another reading, and is taken for plain", p)
		}
	})
}

// FuzzDisguise disguises paths of ours by what the bytes of a script say, and holds
// that all of them are known.
func FuzzDisguise(f *testing.F) {
	f.Add(byte(0), []byte{0})
	f.Add(byte(1), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	f.Add(byte(2), []byte("\x06\x06\x06\x06\x06\x06\x06\x06\x06\x06\x06\x06"))
	f.Add(byte(3), []byte("the quick brown fox jumps over the lazy dog"))
	h := NewHandler(Config{Page: "/system"})
	ours := []string{keysPath, auditPath, GraphQLPath, APIPath, "/system", keysPath + "/0199d3f0-7c1e-7a55-9b1f-2b8f5f0f6d01", openAPIPath}
	f.Fuzz(func(t *testing.T, which byte, script []byte) {
		p := ours[int(which)%len(ours)]
		for i, do := range script[:min(len(script), 12)] {
			p = disguise(p, do, i)
		}
		if len(p) < maxAmbiguous && !h.Owns(p) {
			t.Errorf("%q is handed on", p)
		}
	})
}

// disguise changes a path into one that some reader takes for the same.
func disguise(p string, how byte, at int) string {
	at = (at*7 + int(how)) % len(p)
	escaped := func(c byte) string {
		const hex = "0123456789aBcDeF"
		return "%" + string(hex[c>>4]) + string(hex[c&15])
	}
	switch how % 12 {
	case 0:
		return p[:at] + escaped(p[at]) + p[at+1:]
	case 1:
		return strings.ReplaceAll(p, "%", "%25")
	case 2:
		return p + string("\x00\t\n\r?#;"[at%7]) + "more"
	case 3:
		return p + escaped("\x00\t\n\r?#;"[at%7])
	case 4:
		return strings.Replace(p, "s", "\u017f", 1)
	case 5:
		return strings.Replace(p, "k", "\u212a", 1)
	case 6:
		return strings.Replace(p, "/", "//", 1)
	case 7:
		return "/x/.." + p
	case 8:
		return asciiUpper(p)
	case 9:
		return strings.Replace(p, "/", "\xc0\xaf", 1)
	case 10:
		return "/." + p
	}
	return p + "/"
}

func asciiUpper(p string) string {
	b := []byte(p)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
