package token

import "regexp"

// mention is a key in a text, or a part of one: in any case, and with its
// underscores as they are or percent-encoded. Keys of other services may hold
// whatever a bearer token may, slashes too; so the rest of a path goes with a key.
var mention = regexp.MustCompile(`(?i)lm(_|%5f)sys(_|%5f)[0-9a-z%._~+/=-]*`)

// Redact takes keys out of a text that repeats what somebody has written, such as
// a message that names an unknown field or a path: whoever puts a key in the wrong
// place shall not find it in a log for that. What only begins like a key goes too.
func Redact(s string) string { return mention.ReplaceAllLiteralString(s, "REDACTED") }

// Mentions reports whether there is something in the text that [Redact] would take
// out.
func Mentions(s string) bool { return mention.MatchString(s) }
