package header

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// dropTokens removes tokens from the comma-separated list in field: those for which drop
// returns true. The field may have any number of lines. A line without such a token stays as
// it is. An emptied line goes, and with the last line the field. dropTokens allocates only if
// there is something to remove.
//
// Tokens are split and trimmed as in removeConnectionHeaders of Caddy's reverse_proxy. Both
// must take the same texts for names.
func dropTokens(h http.Header, field string, drop func(token string) bool) {
	lines := h[field]
	first := slices.IndexFunc(lines, func(line string) bool { return anyToken(line, drop) })
	if first < 0 {
		return
	}
	// A new slice, because a copy of the request may share the old one.
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

// stripTrailer removes protected names from the trailers that r has, and from the trailers
// that r gets when its body ends. It also removes a trailer that holds a system key, since it
// is too late then to refuse the request.
//
// The servers differ. HTTP/2 fills the announced names alone. HTTP/1 puts all trailers into
// the map of the announced ones, which copies of the request share (mergeSetHeader in
// net/http/transfer.go). If there is no such map, HTTP/1 gives its own request a new one,
// which earlier copies never see. HTTP/3 always does that. So trailers can come if there is a
// map, or if r is the server's own request and its length is not known.
func (o *Owner) stripTrailer(r *http.Request) {
	o.cleanTrailer(r.Trailer)
	if r.Body == nil || r.Body == http.NoBody || r.Trailer == nil && r.ContentLength >= 0 {
		return
	}
	r.Body = &trailerBody{ReadCloser: r.Body, owner: o, request: r}
}

func (o *Owner) cleanTrailer(trailer http.Header) {
	for name, values := range trailer {
		if o.protects(name) || token.Holds(name) || slices.ContainsFunc(values, token.Holds) {
			delete(trailer, name)
		}
	}
}

// trailerBody cleans the trailers of its request in the Read that finds the end. It must not
// do so later, because reverse_proxy wraps this body and copies the trailers in that same
// Read. It must not do so on Close either, because Close may run beside a Read. If the body
// is closed before its end, trailers have no meaning.
type trailerBody struct {
	io.ReadCloser
	owner   *Owner
	request *http.Request
}

// Read implements [io.Reader].
func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.request != nil {
		b.owner.cleanTrailer(b.request.Trailer)
		b.request = nil // trailers that appear after the end are not the client's
	}
	return n, err
}
