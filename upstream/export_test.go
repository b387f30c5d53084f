package upstream

import "time"

// ForgetKeys makes a verifier read the public keys anew.
func (v *Verifier) ForgetKeys() {
	v.keys.mu.Lock()
	defer v.keys.mu.Unlock()
	v.keys.set, v.keys.nextAt = nil, time.Time{}
}

// Remembered is how many assertions a verifier remembers.
func (v *Verifier) Remembered() int {
	v.remembered.mu.Lock()
	defer v.remembered.mu.Unlock()
	return len(v.remembered.newer) + len(v.remembered.older)
}

// MaxRemembered bounds it.
const MaxRemembered = maxRemembered
