package upstream

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
)

// parseKeys reads a JSON Web Key Set (RFC 7517 section 5). Keys of other kinds, or
// for other purposes, are passed over; a set without any of ours is none.
func parseKeys(text []byte) (map[string]ed25519.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if !shallow(text) || json.Unmarshal(text, &set) != nil {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	known := make(map[string]ed25519.PublicKey, len(set.Keys))
	for _, one := range set.Keys {
		var key struct {
			Type      string `json:"kty"`
			Curve     string `json:"crv"`
			ID        string `json:"kid"`
			Algorithm string `json:"alg"`
			Use       string `json:"use"`
			X         string `json:"x"`
		}
		if json.Unmarshal(one, &key) != nil || key.ID == "" || key.Type != "OKP" || key.Curve != "Ed25519" ||
			key.Algorithm != "" && key.Algorithm != algorithm || key.Use != "" && key.Use != "sig" {
			continue
		}
		if public, err := decode(key.X); err == nil && len(public) == ed25519.PublicKeySize {
			known[key.ID] = public
		}
	}
	if len(known) == 0 {
		return nil, errors.New("there is no Ed25519 key in it")
	}
	return known, nil
}
