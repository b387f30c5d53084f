package verify

import "context"

// Verify is [Verifier.Admit] without a request, from nowhere.
func (v *Verifier) Verify(ctx context.Context, key string) (*Identity, error) {
	_, identity, err := v.Admit(ctx, key, "", nil)
	if err != nil {
		return nil, err
	}
	return identity, nil
}
