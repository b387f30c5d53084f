package header

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// dropTokens removes the tokens that drop names from the comma-separated list
// in field, which may have any number of lines. A line without such a token
// stays as it is, an emptied one goes, and with the last line the field. It
// allocates only if there is something to remove.
//
// Tokens are split and trimmed as in removeConnectionHeaders of Caddy's
// reverse_proxy: what that would not take for a name must not be taken for one
// here either, and the reverse.
func dropTokens(h http.Header, field string, drop func(token string) bool) {
	lines := h[field]
	first := slices.IndexFunc(lines, func(line string) bool { return anyToken(line, drop) })
	if first < 0 {
		return
	}
	// A new slice: the old one may be shared with a copy of the request.
	kept := slices.Clone(lines[:first])
	for _, line := range lines[first:] {
		if !anyToken(line, drop) {
			kept = append(kept, line)
			continue
		}
		var rest []string
		for token := range strings.SplitSeq(line, ",") {
			if token = textproto.TrimString(token); token != "" && !drop(token) {
				rest = append(rest, token)
			}
		}
		if len(rest) > 0 {
			kept = append(kept, strings.Join(rest, ", "))
		}
	}
	if len(kept) == 0 {
		delete(h, field)
		return
	}
	h[field] = kept
}

func anyToken(line string, match func(token string) bool) bool {
	for token := range strings.SplitSeq(line, ",") {
		if match(textproto.TrimString(token)) {
			return true
		}
	}
	return false
}
