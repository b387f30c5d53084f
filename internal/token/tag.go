package token

import (
	"crypto/sha256"
	"encoding/binary"
)

// tagger computes the tags of one mint key: HMAC-SHA256 (RFC 2104), written out
// for messages of one length. Unlike crypto/hmac it keeps no state between
// messages, so it needs neither an allocation nor a pool for each of them.
// Tests hold it against crypto/hmac.
type tagger struct {
	// inner and outer are the mint key XORed with RFC 2104's ipad and opad.
	inner, outer [sha256.BlockSize]byte
}

func newTagger(mintKey [32]byte) tagger {
	var t tagger
	copy(t.inner[:], mintKey[:])
	copy(t.outer[:], mintKey[:])
	for i := range sha256.BlockSize {
		t.inner[i] ^= 0x36
		t.outer[i] ^= 0x5c
	}
	return t
}

// tag gives the tag as it is written, for the signedLength characters of id
// and secret.
func (t *tagger) tag(signed string) (tag [tagLength]byte) {
	var message [sha256.BlockSize + signedLength]byte
	copy(message[:], t.inner[:])
	copy(message[sha256.BlockSize:], signed)
	inner := sha256.Sum256(message[:])

	var outer [sha256.BlockSize + sha256.Size]byte
	copy(outer[:], t.outer[:])
	copy(outer[sha256.BlockSize:], inner[:])
	sum := sha256.Sum256(outer[:])

	encodeUint64(&tag, binary.BigEndian.Uint64(sum[:]))
	return tag
}
