package verify

// pseudonyms names the keys of other services in the store. Such a key may be weak,
// so that who reads the store could find it by guessing from a plain digest, for
// much less than the Argon2id hash beside it costs. Hence a key goes under
//
//	digest = HMAC(secret, "adopt\0" ‖ key)
//	era    = HMAC(secret, "adopt era\0")
//
// with the secret of the installation, which no store holds. The era tells which
// entries can be found by the secret.
type pseudonyms []sealer

func newPseudonyms(secrets [][]byte) (p pseudonyms) {
	for _, secret := range secrets {
		p = append(p, sealer{secret})
	}
	return p
}

// digests are those of a key under every accepted secret, the one that writes first.
func (p pseudonyms) digests(key string) [][32]byte {
	all := make([][32]byte, len(p))
	for i, s := range p {
		all[i] = [32]byte(s.mac([]byte("adopt\x00"), []byte(key)))
	}
	return all
}

// eras are the names of the accepted secrets, in the same order.
func (p pseudonyms) eras() [][32]byte {
	all := make([][32]byte, len(p))
	for i, s := range p {
		all[i] = [32]byte(s.mac([]byte("adopt era\x00")))
	}
	return all
}
