package token

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"unsafe"
)

// mostEncoded is the length of the longest text that is read as one key: each character is
// percent-encoded, and each character of its escape once more. A key in base64 with white
// space in it is not read any further either.
const mostEncoded = 9 * Length

// scanBuffer is how much of a stream [Minter.Scan] holds in memory.
const scanBuffer = 256 << 10

// Scan reads a stream to its end and calls found for each key of this installation, with
// the number of the line in which it begins. It does not matter what stands around a key,
// nor how long a line is. A key may be percent-encoded, once or twice, as a whole or in part;
// it may stand in UTF-16 text; and it may be a part of what is encoded in base64.
//
// The tag decides, so what only looks like a key is not found. Keys of other services have
// no tag. If the stream ends by an error, Scan returns it after it has searched what came
// before.
func (m *Minter) Scan(stream io.Reader, found func(line int, id [16]byte)) error {
	buffer := scanBuffers.Get().(*[scanBuffer]byte)
	defer scanBuffers.Put(buffer)
	return m.scan(stream, buffer[:], found)
}

// scanBuffers saves an allocation for each of many small files.
var scanBuffers = sync.Pool{New: func() any { return new([scanBuffer]byte) }}

// scan is [Minter.Scan] with a buffer that is longer than mostEncoded.
func (m *Minter) scan(stream io.Reader, buffer []byte, found func(line int, id [16]byte)) error {
	line, kept := 1, 0
	for {
		n, err := io.ReadFull(stream, buffer[kept:])
		text := buffer[:kept+n]
		// A key that begins later may go on after the buffer. It is searched for next time.
		end := len(text)
		if err == nil {
			end -= mostEncoded
		}
		counted := 0
		m.findMinted(text, end, func(start int, id [16]byte) {
			line += bytes.Count(text[counted:start], newline)
			counted = start
			found(line, id)
		})
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
		line += bytes.Count(text[counted:end], newline)
		kept = copy(buffer, text[end:])
	}
}

var newline = []byte{'\n'}

// findMinted calls found for each key of this installation that begins before end.
func (m *Minter) findMinted(text []byte, end int, found func(start int, id [16]byte)) {
	// The string is not used after the buffer has changed.
	s := unsafe.String(unsafe.SliceData(text), len(text)) //nolint:gosec // a copy would cost as much as the search
	var starts [len(forms)]int
	for k, form := range forms {
		starts[k] = form.next(s, 0)
	}
	for {
		start := slices.Min(starts[:])
		if start >= end {
			return
		}
		for k, form := range forms {
			if starts[k] != start {
				continue
			}
			starts[k] = form.next(s, start+1)
			var key [Length]byte
			if !form.read(s, start, &key) {
				continue
			}
			if id, minted := m.minted(&key); minted {
				found(start, id)
			}
		}
	}
}

// minted returns the id of a key, if it is one of this installation.
func (m *Minter) minted(key *[Length]byte) (id [16]byte, minted bool) {
	s := unsafe.String(&key[0], Length) //nolint:gosec // nobody changes the key any more, and a copy would be an allocation
	if !m.Minted(s) {
		return id, false
	}
	id, _, err := Read(s)
	return id, err == nil
}
