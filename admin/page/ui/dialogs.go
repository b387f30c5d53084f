package ui

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// SignIn asks for a key.
type SignIn struct {
	// Notice is the key of a text below "signin.notice.", or empty.
	Notice string
	// Failed says that the notice is about a failure.
	Failed bool
}

func (SignIn) template() string { return "signin" }
func (SignIn) title() string    { return "title.signin" }

// Problem is the page for an error.
type Problem struct {
	// Code is the key of a text below "problem.".
	Code   string
	Status int
	// Missing is the permission that the admin lacks.
	Missing   string
	RequestID string
}

func (Problem) template() string { return "problem" }
func (Problem) title() string    { return "title.problem" }

// Create is the form for a new key.
type Create struct {
	Nonce string
	// Label, Permissions, Networks, Expires and IsSystem are what the admin has typed.
	Label, Permissions, Networks, Expires string
	IsSystem                              bool
	// Without says that the key is to hold no permissions.
	Without bool
	// MayGrantSystem offers to make a system admin.
	MayGrantSystem bool
	// Suggestions are permissions that the admin may grant.
	Suggestions []string
	// Errors are keys of texts below "create.error.", by field.
	Errors map[string]string
	// Today is the day from which [Create.Dates] counts.
	Today time.Time
}

func (Create) template() string { return "create" }
func (Create) title() string    { return "title.create" }

// Open says that the networks are unfolded, since there is something behind them.
func (c Create) Open() bool { return c.Networks != "" || c.Errors["networks"] != "" }

// Dates are common expiries.
func (c Create) Dates() []string {
	dates := make([]string, 4)
	for i, days := range [...]int{7, 30, 90, 365} {
		dates[i] = c.Today.AddDate(0, 0, days).Format(time.DateOnly)
	}
	return dates
}

// First is the first day on which a key can expire.
func (c Create) First() string { return c.Today.Format(time.DateOnly) }

// Reveal shows a new key, once.
type Reveal struct {
	Label, Key string
	// URL is where the key can be tried.
	URL string
	// Old is the key that the new one replaces, or nil. It ends at its expiry, or a time
	// after the first use of the new one: see [Rotate.Graces].
	Old   *store.Key
	Grace string
	// Ended says how far the end of the old key has come, if it was ended at once.
	Ended *Revoked
	// Unused says how far the end of an earlier successor has come, which nobody has used, if
	// some instance may accept it still.
	Unused *Revoked
}

func (Reveal) template() string { return "reveal" }
func (Reveal) title() string    { return "title.reveal" }

// Revoke asks whether a key is to be revoked.
type Revoke struct {
	Key   Key
	Nonce string
	// Confirm says that the admin has to type the label, since the key is in use.
	Confirm bool
	// Mismatch says that the admin has typed another label.
	Mismatch bool
}

func (Revoke) template() string { return "revoke" }
func (Revoke) title() string    { return "title.revoke" }

// Revoked says how far a revocation has come.
type Revoked struct {
	Label string
	// Total is how many instances there are. Refusing is how many of them refuse the
	// key.
	Total, Refusing int
	// Expired is how many of the refusing instances were silent until they could not
	// accept the key any more.
	Expired int
	// Cut is how many requests in flight were cut.
	Cut int
	// Awaited names the instances that do not refuse the key yet.
	Awaited []string
	// Done says that every instance refuses the key.
	Done bool
}

func (Revoked) template() string { return "revoked" }
func (Revoked) title() string    { return "title.revoked" }
