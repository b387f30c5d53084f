package admin

import (
	"path"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// keysPath is the collection of keys.
const keysPath = "/v1/admin/system-keys"

// Owns reports whether a request for this decoded path is answered by the admin
// plane. Every spelling that some upstream might clean into one of ours counts:
// doubled and back slashes, dot segments, percent signs that were encoded twice,
// letters in another case, a slash at the end. What is ours but is not spelled
// exactly is answered with 404, and never handed on to an endpoint of the same
// name that checks nothing.
func Owns(decoded string) bool {
	cleaned := clean(decoded)
	return cleaned == keysPath || strings.HasPrefix(cleaned, keysPath+"/")
}

func clean(p string) string {
	for range 3 { // deeper nesting than any chain of proxies decodes
		again := decodeOnce(p)
		if again == p {
			break
		}
		p = again
	}
	return strings.ToLower(path.Clean("/" + strings.ReplaceAll(p, `\`, "/")))
}

func decodeOnce(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			high, low := unhex(p[i+1]), unhex(p[i+2])
			if high >= 0 && low >= 0 {
				b.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func unhex(c byte) int {
	if c >= '0' && c <= '9' {
		return int(c - '0')
	}
	if c |= 0x20; c >= 'a' && c <= 'f' {
		return int(c-'a') + 10
	}
	return -1
}

// resource says what a path names: the collection, or one key. The path must be
// spelled exactly.
func resource(escaped string) (id store.ID, collection, ok bool) {
	if escaped == keysPath {
		return store.ID{}, true, true
	}
	text, found := strings.CutPrefix(escaped, keysPath+"/")
	if !found {
		return store.ID{}, false, false
	}
	id, err := store.ParseID(text)
	if err != nil || id.String() != text {
		return store.ID{}, false, false
	}
	return id, false, true
}
