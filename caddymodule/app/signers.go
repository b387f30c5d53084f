package app

import (
	"cmp"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
)

// Signers are the audiences of a configuration, by the id of each secret that signs for
// them. Ids are public, so comparing them gives nothing away.
type Signers map[string]string

// OwnSecret stands for the audience of secrets that no upstream may have. No audience is
// empty.
const OwnSecret = ""

// Claim says that secrets sign for an audience. Whoever can verify with a secret can sign
// with it too. With one secret for two audiences, a service could sign what another one
// believes. With the app's own, it could sign proofs and audit records, or be an admin.
func (s Signers) Claim(audience string, secrets ...[]byte) error {
	for _, secret := range secrets {
		id := assertion.SecretID(secret)
		other, known := s[id]
		switch {
		case !known:
			s[id] = audience
		case other == audience:
		case other == OwnSecret, audience == OwnSecret:
			return fmt.Errorf("assertion: a secret of %q is one of system_keys or jwt too, which no upstream may know: make another one",
				cmp.Or(audience, other))
		default:
			return fmt.Errorf("assertion: %q and %q have the same secret, so each of them could sign for the other: make one for each audience",
				other, audience)
		}
	}
	return nil
}
