package token

import (
	"encoding/binary"
	"math/bits"
)

const (
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base     = uint(len(alphabet))
)

// The greatest number that fits each part: 2^128-1, 2^256-1 and 2^64-1.
const (
	maxID     = "7n42DGM5Tflk9n8mt7Fhc7"
	maxSecret = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1" //nolint:gosec // a number, and no credential
	maxTag    = "LygHa16AHYF"
)

// notDigit marks the bytes outside the alphabet. It has a bit that no digit has.
const notDigit = 1 << 7

var digits = func() (table [256]byte) {
	for i := range table {
		table[i] = notDigit
	}
	for value := range alphabet {
		table[alphabet[value]] = byte(value)
	}
	return table
}()

// isBase62 looks at every byte of s, so that its time says nothing about s.
func isBase62(s string) bool {
	var seen byte
	for i := range len(s) {
		seen |= digits[s[i]]
	}
	return seen&notDigit == 0
}

// encode writes the big-endian number in base62 over the whole of dst. The number must fit.
func encode(dst, number []byte) {
	var scratch [32]byte
	quotient := scratch[:copy(scratch[:], number)]
	for i := len(dst) - 1; i >= 0; i-- {
		var remainder uint
		for j, b := range quotient {
			n := remainder<<8 | uint(b)
			quotient[j], remainder = byte(n/base), n%base
		}
		dst[i] = alphabet[remainder]
	}
}

// encodeUint64 is [encode] for a tag. It is faster, because it runs on every request.
func encodeUint64(dst *[tagLength]byte, number uint64) {
	for i := tagLength - 1; i >= 0; i-- {
		dst[i] = alphabet[number%uint64(base)]
		number /= uint64(base)
	}
}

// decodeID reads an id that [encode] wrote. For other text the result means nothing.
func decodeID(s string) (id [16]byte) {
	var hi, lo uint64
	for i := range len(s) {
		overflow, product := bits.Mul64(lo, uint64(base))
		sum, carry := bits.Add64(product, uint64(digits[s[i]]), 0)
		hi, lo = hi*uint64(base)+overflow+carry, sum
	}
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id
}
