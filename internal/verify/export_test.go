package verify

// NoneTTL is for tests that move the clock.
const NoneTTL = noneTTL

// ManyProcessors has searches spend what they may where there are several.
func ManyProcessors(c *Config) { c.allowance = allowanceOf(2) }
