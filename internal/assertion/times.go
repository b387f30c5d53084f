package assertion

import "time"

// How long things are, and why each is longer than another.
const (
	// fresh is how long an instance serves a set without reading it again.
	fresh = 500 * time.Millisecond
	// settle is how long a key is published before its first use: after it no
	// instance serves a set that was read before. Verifiers that have an older set
	// ask for a newer one when they meet a key that they do not know.
	settle = 2 * fresh
	// life is how long a key is published for without being renewed, which is how
	// long that of an instance that has crashed stays.
	life = 10 * time.Minute
	// renewal is how often an instance moves on the expiry of its keys.
	renewal = time.Minute
	// staleFor is how long an instance serves a set while the store cannot be read:
	// as long as no key in it can have expired whose instance lives.
	staleFor = life - 2*renewal
	// rotation is how long a key signs.
	rotation = 24 * time.Hour
	// overlap is how long its successor is published before its first use, so that
	// also verifiers that only look now and then know it by then.
	overlap = time.Hour
	// afterlife is how long a key stays published that signs no more: its last
	// assertion, and clocks that differ.
	afterlife = MaxTTL + time.Minute
	// margin is what the clocks of this instance and of the store may differ by in
	// the life of a key. It includes the time that a statement takes.
	margin = 30 * time.Second

	// storeTimeout bounds one question to the store.
	storeTimeout = 2 * time.Second
	// retry is how soon a question is asked again that was not answered.
	retry = time.Second
	// patience is how long a request waits for a key that is being published.
	patience = 3 * time.Second
	// look is how often it looks.
	look = 10 * time.Millisecond
)
