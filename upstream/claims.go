package upstream

import "strings"

// readClaims reads the payload as the proxy writes it: these members in this order,
// without blanks, and without an escape in a text. It returns nil for any other spelling,
// which is left to package json. That one takes several times as long, and longer than
// HMAC.
func readClaims(payload string) *claims {
	var c claims
	r := reader{rest: payload}
	c.Issuer = r.text(`{"iss":"`)
	c.Audience = r.text(`,"aud":"`)
	c.Subject = r.text(`,"sub":"`)
	c.Label = r.text(`,"label":"`)
	c.Permissions = r.texts(`,"permissions":[`)
	c.IssuedAt = r.number(`,"iat":`)
	c.ExpiresAt = r.number(`,"exp":`)
	c.ID = r.text(`,"jti":"`)
	if r.rest != "}" {
		c.Method = r.text(`,"htm":"`)
		c.URL = r.text(`,"htu":"`)
	}
	r.skip("}")
	if r.failed || r.rest != "" {
		return nil
	}
	return &c
}

// reader takes values off the front of a text. After something unexpected it has failed,
// and what it returns means nothing.
type reader struct {
	rest   string
	failed bool
}

func (r *reader) skip(prefix string) {
	rest, found := strings.CutPrefix(r.rest, prefix)
	r.rest, r.failed = rest, r.failed || !found
}

// text reads up to a quote. It takes printable ASCII without a backslash.
func (r *reader) text(prefix string) string {
	r.skip(prefix)
	for i := range len(r.rest) {
		switch c := r.rest[i]; {
		case c == '"':
			text := r.rest[:i]
			r.rest = r.rest[i+1:]
			return text
		case c < 0x20, c > 0x7E, c == '\\':
			r.failed = true
			return ""
		}
	}
	r.failed = true
	return ""
}

// texts reads a list of them. It is empty, and not nil, if there are none.
func (r *reader) texts(prefix string) []string {
	r.skip(prefix)
	list := []string{}
	for separator := `"`; !r.failed && !strings.HasPrefix(r.rest, "]"); separator = `,"` {
		list = append(list, r.text(separator))
	}
	r.skip("]")
	return list
}

// number reads up to 15 digits, of which the first is no zero.
func (r *reader) number(prefix string) int64 {
	r.skip(prefix)
	var n int64
	digits := 0
	for digits < len(r.rest) && r.rest[digits] >= '0' && r.rest[digits] <= '9' {
		if digits++; digits <= 15 {
			n = 10*n + int64(r.rest[digits-1]-'0')
		}
	}
	r.failed = r.failed || digits == 0 || digits > 15 || r.rest[0] == '0'
	r.rest = r.rest[digits:]
	return n
}
