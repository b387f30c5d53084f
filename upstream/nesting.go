package upstream

// maxLevels is how deep what is decoded may be nested.
const maxLevels = 64

// shallow reports whether a JSON text keeps to that, before it is decoded: it counts
// brackets outside of strings. A decoder calls itself for each level.
func shallow(text []byte) bool {
	depth, inText, escaped := 0, false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped, inText = c == '\\', c != '"'
		case c == '"':
			inText = true
		case c == '{', c == '[':
			if depth++; depth > maxLevels {
				return false
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return true
}
