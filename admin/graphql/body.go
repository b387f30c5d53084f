package graphql

import (
	"context"
	"io"
	"runtime"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// Bounds on the memory that an anonymous client can use. Under graphql_passthrough a
// body is read before the caller is known. It is kept until its request ends.
const (
	// smallBody is the number of bytes that every request may send.
	smallBody = 64 << 10
	// largeBodies is how many requests may send more than that at once, 64 MiB in all.
	largeBodies = maxLargeMemory / maxBody
	// maxLargeMemory bounds all larger bodies together, in bytes.
	maxLargeMemory = 64 << 20
)

// bodyLimits bounds the memory of all bodies together. It is safe for concurrent use.
type bodyLimits struct {
	large   chan struct{} // a place for each larger body
	parsing chan struct{} // a place for each body that is parsed, which costs some times its size
}

// newBodyLimits makes the limits of one endpoint.
func newBodyLimits() *bodyLimits {
	return &bodyLimits{large: make(chan struct{}, largeBodies), parsing: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// parse calls do. At most as many calls run at once as there are processors. More calls would
// use more memory and be no faster. A call waits for its turn until ctx ends.
func (l *bodyLimits) parse(ctx context.Context, do func() error) error {
	select {
	case l.parsing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.parsing }()
	return do()
}

// limitedBody is a body that takes a place when it gets larger than smallBody. What the client
// says of the length does not count, so a place is taken only for bytes that were sent.
type limitedBody struct {
	io.ReadCloser
	limits   *bodyLimits
	read     int
	hasPlace bool
}

// Read implements [io.Reader]. The error is a refusal if no place is left. It does not wait for
// one: slow clients could hold all of them.
//
// What was read of the piece that is too much is dropped with the request.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += n; b.read <= smallBody || b.hasPlace {
		return n, err
	}
	select {
	case b.limits.large <- struct{}{}:
		b.hasPlace = true
		return n, err
	default:
		return 0, admin.Unavailable("too many large documents are being read at the moment")
	}
}

// release gives the place back. Call it when the body is no longer needed, once.
func (b *limitedBody) release() {
	if b.hasPlace {
		<-b.limits.large
	}
}
