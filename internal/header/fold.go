package header

// folded maps the bytes of a field name to what they are compared as. Letters
// are compared without case. Whatever is neither a letter nor a digit counts as
// a hyphen: CGI (RFC 3875 section 4.1.18), WSGI, Rack and FastCGI hand a field
// on as HTTP_X_LUMIO_KEY_ID, PHP makes an underscore of a dot too, and some
// servers make one of every other byte. An upstream behind them cannot tell
// these spellings apart, so all of them are the owned name.
var folded = func() (table [256]byte) {
	for i := range table {
		switch c := byte(i); {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			table[i] = c
		case c >= 'A' && c <= 'Z':
			table[i] = c + 'a' - 'A'
		default:
			table[i] = '-'
		}
	}
	return table
}()

// fold returns the form of name that all its spellings have in common.
func fold(name string) string {
	b := make([]byte, len(name))
	for i := range len(name) {
		b[i] = folded[name[i]]
	}
	return string(b)
}

// hasFoldedPrefix reports whether fold(name) begins with prefix, which must be
// folded already. It does not allocate.
func hasFoldedPrefix(name, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if folded[name[i]] != prefix[i] {
			return false
		}
	}
	return true
}
