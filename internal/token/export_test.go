package token

import (
	"errors"
	"io"
)

// ErrUnminted reports a string of the right form whose tag was made with another mint key.
var ErrUnminted = errors.New("not a key of this installation")

// Parse reads a key and checks its tag, as package verify does for a key that is not in
// memory.
func (m *Minter) Parse(s string) (id [16]byte, err error) {
	id, _, err = Read(s)
	if !m.Minted(s) && err == nil {
		return [16]byte{}, ErrUnminted
	}
	return id, err
}

// MostEncoded is how much of a stream a scan keeps for what comes.
const MostEncoded = mostEncoded

// ScanIn is [Minter.Scan] with a buffer.
func (m *Minter) ScanIn(stream io.Reader, buffer []byte, found func(line int, id [16]byte)) error {
	return m.scan(stream, buffer, found)
}
