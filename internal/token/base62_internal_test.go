package token

import (
	"math/big"
	"testing"
)

// No key with a tag of 2^64-1 can be found to test the bound with, so the
// bounds are looked at themselves.
func TestTheMaximaAreAllOnes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		digits string
		bits   uint
		width  int
	}{
		{maxID, 128, idLength},
		{maxSecret, 256, secretLength},
		{maxTag, 64, tagLength},
	} {
		number := new(big.Int)
		for i := range len(c.digits) {
			number.Mul(number, big.NewInt(62)).Add(number, big.NewInt(int64(digits[c.digits[i]])))
		}
		want := new(big.Int).Lsh(big.NewInt(1), c.bits)
		want.Sub(want, big.NewInt(1))
		if number.Cmp(want) != 0 || len(c.digits) != c.width {
			t.Errorf("%s is %x in %d digits, want %x in %d", c.digits, number, len(c.digits), want, c.width)
		}
	}
}

func TestTheDummyCostsWhatAKeyCosts(t *testing.T) {
	t.Parallel()
	if len(dummyKey) != Length {
		t.Errorf("the dummy is %d characters long", len(dummyKey))
	}
}
