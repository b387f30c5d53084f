package verify

// Of these, tests move the clock by.
const (
	NoneTTL      = noneTTL
	DismissedTTL = dismissedTTL
	LookTTL      = lookTTL
)

// ManyProcessors has searches spend what they may where there are several.
func ManyProcessors(c *Config) { c.allowance = allowanceOf(2) }
