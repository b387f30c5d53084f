package verify

// NoneTTL is for tests that move the clock.
const NoneTTL = noneTTL
